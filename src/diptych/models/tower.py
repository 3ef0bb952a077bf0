"""What every tower answers, so that nobody outside looks into one."""

from contextlib import nullcontext
from types import MethodType
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.checkpoint import checkpoint

from diptych.config import TowerConfig
from diptych.errors import ConfigError
from diptych.nn import unrecorded
from diptych.nn.norm import batch_norms


class TowerOutput(NamedTuple):
    """`tokens`: [batch, tokens, width], as the last block leaves them (no final norm). `pooled`:
    [batch, embed_dim], projected to the shared space, not normalised."""

    tokens: Tensor
    pooled: Tensor


C = TypeVar("C", bound=TowerConfig)


class Tower(nn.Module, Generic[C]):
    """Pixels or token ids -> token features and one vector in the shared space.

    A tower registers its parts in the order in which data runs through them; `layer_of` rests on
    it."""

    config: C
    width: int
    """Of `tokens`."""
    class_tokens: int = 0
    """How many of the first `tokens` aren't patches."""
    blocks: nn.ModuleList | list[nn.Module]
    """The repeated blocks in order: the units of activation checkpointing, compilation and
    sharding."""

    always_projects: bool = True
    """Whether there is no such tower without a projection to the shared space."""

    @classmethod
    def build(cls, config: C, embed_dim: int | None, device: torch.device) -> "Tower[C]":
        """The tower on `device`, before `init`; `embed_dim` None: without a projection. Raises
        ConfigError where it can't be without.

        It is made on `meta`, so that torch's own initialisation costs nothing.
        """
        cls.check_projection(config, embed_dim)
        with torch.device("meta"):
            tower = cls(config, embed_dim)
        # On meta `to_empty` would only import sympy, which takes a second.
        return tower if device.type == "meta" else tower.to_empty(device=device)

    @classmethod
    def check_projection(cls, config: C, embed_dim: int | None) -> None:
        """Raises ConfigError for a tower without a projection where there is none."""
        if embed_dim is None and cls.always_projects:
            raise ConfigError(f"a {type(config).__name__} has no tower without a projection")

    def forward(self, x: Tensor) -> TowerOutput:
        """Tokens and pooled vector of pixels [batch, 3, size, size] or of ids [batch, length]."""
        raise NotImplementedError

    def pooled(self, x: Tensor) -> Tensor:
        """`forward(x).pooled`, [batch, embed_dim], without computing what only the tokens need."""
        return self(x).pooled

    def normed(self, tokens: Tensor) -> Tensor:
        """Tokens of `forward` behind the tower's final norm. Raises ConfigError for a tower without
        one."""
        raise ConfigError(f"a {type(self).__name__} has no norm for its tokens")

    def feature(self, tokens: Tensor) -> Tensor:
        """From an image tower's tokens to the vector that its last projection takes: [batch,
        feature_width]. Raises ConfigError for a tower of another library."""
        raise ConfigError(f"a {type(self).__name__} doesn't show what it projects")

    @property
    def feature_width(self) -> int:
        """Of `feature`."""
        return self.width

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is. Raises ConfigError for a tower that makes no
        patches by one."""
        raise ConfigError(f"freeze_patches: a {type(self).__name__} has no projection of patches")

    def init(self) -> None:
        """Fill every parameter and buffer with its value before training."""
        raise NotImplementedError

    def flops(self) -> int:
        """Floating-point operations of `forward` for one sample at full size; a multiply-add counts
        two. Matrix products, convolutions and attention are counted, as `torch.utils.flop_counter`
        does."""
        raise NotImplementedError

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each block's activations in the backward pass: less memory, about a third more
        time, the same gradients and batch statistics. Raises ConfigError for a tower without
        blocks."""
        if not len(self.blocks):
            raise ConfigError(
                "checkpointing needs a tower of repeated blocks, and none were found in this one"
            )
        for block in self.blocks:
            vars(block).pop("forward", None)
            if on:
                block.forward = MethodType(_recomputed, block)

    @property
    def layers(self) -> int:
        """The depth behind the last block, the greatest that `layer_of` gives."""
        return len(self.blocks) + 1

    def layer_of(self, name: str) -> int:
        """The depth of a parameter, by which layer-wise decay of the learning rate goes: 0 before
        the first block, i within the i-th, `layers` behind the last. What stands between two blocks
        belongs to the former. Raises KeyError for a name that isn't a parameter."""
        depth_of = {
            parameter: i
            for i, block in enumerate(self.blocks, 1)
            for parameter in block.parameters()
        }
        depth = 0
        for current, parameter in self.named_parameters():
            behind = depth if depth < len(self.blocks) else len(self.blocks) + 1
            here = depth_of.get(parameter, behind)
            if current == name:
                return here
            depth = max(depth, depth_of.get(parameter, 0))
        raise KeyError(name)

    @property
    def no_decay(self) -> set[str]:
        """Names of the parameters without weight decay: all but the matrices of linear, convolution
        and embedding layers. So gains, biases, position tables and class tokens have none."""
        matrices = {
            f"{name}.weight"
            for name, m in self.named_modules()
            if isinstance(m, nn.Linear | _ConvNd | nn.Embedding)
        }
        return {name for name, _ in self.named_parameters() if name not in matrices}

    @property
    def batch_statistics(self) -> bool:
        """Whether a sample's training output depends on its batch (batch normalisation)."""
        return bool(batch_norms(self))


def _recomputed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Stands in for `block.forward` where checkpointing is on."""
    forward = type(block).forward
    if not torch.is_grad_enabled():
        return forward(block, *args, **kwargs)
    again = {"context_fn": lambda: (nullcontext(), unrecorded(block))} if batch_norms(block) else {}
    return checkpoint(forward, block, *args, use_reentrant=False, **again, **kwargs)
