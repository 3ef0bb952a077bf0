"""Which modules of a model are compiled and sharded one at a time."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from diptych.compat.faces.tower import OpenClipTower
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.modified_resnet import Bottleneck
from diptych.compat.parts.blocks import CustomResidualAttentionBlock, ResidualAttentionBlock
from diptych.compat.parts.modern_blocks import ModernTextDecoderBlock
from diptych.compat.timm_model import TimmModel
from diptych.families.genlip.block import GenlipBlock
from diptych.models.foreign import repeated_blocks

_OWN = (
    ResidualAttentionBlock,
    CustomResidualAttentionBlock,
    ModernTextDecoderBlock,
    Bottleneck,
    GenlipBlock,
)


@runtime_checkable
class SaysBlocks(Protocol):
    """A model that says it itself, as open_clip asks for it."""

    def fsdp_shard_modules(self) -> Sequence[tuple[str, nn.Module]]:
        """Names and modules."""
        raise NotImplementedError


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of the towers; none of a model that nobody knows.

    >>> from diptych import compat
    >>> from diptych.compat.task.blocks import blocks_of
    >>> len(blocks_of(compat.create_model("tiny", load_weights=False)))
    2
    """
    if isinstance(model, SaysBlocks):
        return [module for _, module in model.fsdp_shard_modules()]
    found = list[nn.Module]()
    for module in model.modules():
        if isinstance(module, _OWN):
            found.append(module)
        elif isinstance(module, OpenClipTower):
            found += module.tower.units
        elif isinstance(module, TimmModel):
            found += repeated_blocks(module.trunk)
        elif isinstance(module, HFTextEncoder):
            found += module.units
    return found
