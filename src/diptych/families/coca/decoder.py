"""What writes CoCa's captions (Yu et al. 2022, arXiv:2205.01917), as open_clip has it."""

from collections.abc import Iterator

from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.families.coca.config import CocaDecoderConfig
from diptych.models.decoder import Decoder, Read
from diptych.nn import CrossBlock
from diptych.nn.block import block_flops, build_blocks, init_blocks
from diptych.nn.cross import build_readers, cross_flops

_PATCHES = 255
"""Tokens of a picture that the published models' decoders read."""


class CocaDecoder(Decoder[CocaDecoderConfig]):
    """Blocks over the text so far, each followed by one that reads the picture's tokens.

    >>> import torch
    >>> from diptych.families.coca import CocaDecoderConfig
    >>> from diptych.families.coca.decoder import CocaDecoder
    >>> config = CocaDecoderConfig(vocab_size=10, width=8, layers=1, heads=2, mlp_width=16)
    >>> decoder = CocaDecoder(config)
    >>> decoder.init()
    >>> decoder(torch.zeros(2, 3, 8), decoder.read(torch.zeros(2, 5, 8))).shape
    torch.Size([2, 3, 10])
    """

    def __init__(self, config: CocaDecoderConfig):
        super().__init__(config)
        self.width = config.width
        self.blocks = build_blocks(config)
        self.readers = build_readers(config, config.layers)
        self.norm_post = nn.LayerNorm(config.width, config.norm_eps)
        self.projection = nn.Linear(config.width, config.vocab_size, bias=False)

    def init(self) -> None:
        """Fill every parameter: both kinds of blocks by CLIP's table (`init_blocks`), the norm with
        gain 1 and bias 0, the projection with N(0, 1 / width)."""
        width = self.config.width
        init_blocks(self.blocks, width)
        residual = (2 * self.config.layers * width) ** -0.5
        for reader in self._readers():
            reader.init(residual)
        self.norm_post.reset_parameters()
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def read(
        self,
        pictures: Float[Tensor, "batch tokens width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Read:
        """See `Decoder.read`."""
        return Read([reader.keys_values(pictures) for reader in self._readers()], seen)

    def forward(
        self,
        texts: Float[Tensor, "texts length width"],
        read: Read,
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """See `Decoder.forward`."""
        x = texts
        for block, reader, picture in zip(self.blocks, self.readers, read.keys_values, strict=True):
            x = reader(block(x, causal=True), read=picture, seen=read.seen)
        return self.logits(x[:, -1:] if last else x)

    def states(
        self,
        texts: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens width"],
        seen: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """See `Decoder.states`."""
        x = texts
        for block, reader in zip(self.blocks, self.readers, strict=True):
            x = reader(block(x, causal=True), pictures=pictures, seen=seen)
        return x

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """See `Decoder.logits`."""
        return self.projection(self.norm_post(states))

    @property
    def units(self) -> list[nn.Module]:
        """See `Decoder.units`: each block, and the reader behind it."""
        return [unit for pair in zip(self.blocks, self.readers, strict=True) for unit in pair]

    def _readers(self) -> Iterator[CrossBlock]:
        for reader in self.readers:
            assert isinstance(reader, CrossBlock)
            yield reader

    def flops(self) -> int:
        """Of `forward` for one caption of full length and a picture of 255 tokens; a multiply-add
        counts two."""
        c = self.config
        length, width = c.context_length, c.width
        text = block_flops(length, width, c.mlp_width)
        layers = c.layers * (text + cross_flops(length, _PATCHES, width, c.mlp_width))
        return layers + 2 * length * width * c.vocab_size
