"""What writes captions by recent language models' blocks: CoCa's decoder (Yu et al. 2022,
arXiv:2205.01917) as open_clip's main branch has it."""

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.families.modern.config import ModernDecoderConfig
from diptych.models.decoder import Decoder, Read
from diptych.nn.modern_attention import BlockOptions
from diptych.nn.modern_block import (
    ModernBlock,
    each_block,
    modern_blocks,
    modern_flops,
    run_blocks,
)
from diptych.nn.modern_init import init_modern_blocks
from diptych.nn.padding import for_heads
from diptych.nn.rotary import rotary_line

_PICTURE = 256
"""Tokens of a picture in open_clip's configurations."""


class ModernDecoder(Decoder[ModernDecoderConfig]):
    """Blocks over the text so far, which read the picture's tokens between attention and
    perceptron.

    >>> import torch
    >>> from diptych.families.modern import ModernDecoderConfig
    >>> from diptych.families.modern.decoder import ModernDecoder
    >>> config = ModernDecoderConfig(
    ...     vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> decoder = ModernDecoder(config)
    >>> decoder.init()
    >>> decoder(torch.zeros(2, 3, 8), decoder.read(torch.zeros(2, 5, 8))).shape
    torch.Size([2, 3, 10])
    """

    block_kind: ClassVar[Callable[[BlockOptions, bool, bool], ModernBlock]] = ModernBlock
    """What its blocks are."""

    def __init__(self, config: ModernDecoderConfig):
        super().__init__(config)
        self.width = config.width
        options = self.options_of(config)
        self.blocks = modern_blocks(options, config.layers, config.step, type(self).block_kind)
        self.norm_post = options.norm(config.width)
        self.projection = nn.Linear(config.width, config.vocab_size, bias=False)

    @classmethod
    def options_of(cls, config: ModernDecoderConfig) -> BlockOptions:
        """What its blocks are made of."""
        return BlockOptions.of(config)

    def init(self) -> None:
        """Fill every parameter: the blocks by `nn.modern_init.init_modern_blocks`, the norm with
        gain 1 and bias 0, the projection with N(0, 1 / width)."""
        c = self.config
        init_modern_blocks(self.blocks, c.width, c.sandwich, c.zero_residual)
        assert isinstance(self.norm_post, nn.RMSNorm | nn.LayerNorm)
        self.norm_post.reset_parameters()
        nn.init.normal_(self.projection.weight, std=c.width**-0.5)

    def read(
        self,
        pictures: Float[Tensor, "batch tokens width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Read:
        """See `Decoder.read`."""
        readers = (block.reader for block in each_block(self.blocks))
        own = [reader.keys_values(pictures) for reader in readers if reader is not None]
        return Read(own, seen)

    def forward(
        self,
        texts: Float[Tensor, "texts length width"],
        read: Read,
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """See `Decoder.forward`."""
        given = {"read": read.keys_values, "seen": for_heads(read.seen)}
        x = run_blocks(self.blocks, texts, self.turns(texts), causal=True, **given)
        return self.logits(x[:, -1:] if last else x)

    def states(
        self,
        texts: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens width"],
        seen: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """See `Decoder.states`."""
        given = {"pictures": pictures, "seen": for_heads(seen)}
        return run_blocks(self.blocks, texts, self.turns(texts), causal=True, **given)

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """See `Decoder.logits`."""
        return self.projection(self.norm_post(states))

    @property
    def units(self) -> list[nn.Module]:
        """See `Decoder.units`: the blocks."""
        return list(self.blocks)

    def turns(self, texts: Float[Tensor, "texts length width"]) -> Tensor | None:
        """By the places of texts; None: they have none."""
        c = self.config
        if not c.rotary:
            return None
        return rotary_line(texts.shape[1], c.head_width, c.theta, texts.device)

    def flops(self) -> int:
        """Of `forward` for one caption of full length and a picture of 256 tokens; a multiply-add
        counts two."""
        c = self.config
        blocks = modern_flops(c, c.context_length, c.step, _PICTURE)
        return blocks + 2 * c.context_length * c.width * c.vocab_size
