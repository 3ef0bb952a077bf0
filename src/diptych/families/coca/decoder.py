"""What writes CoCa's captions (Yu et al. 2022, arXiv:2205.01917), as open_clip has it."""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.coca.config import CocaDecoderConfig
from diptych.models.decoder import Decoder
from diptych.nn import Mlp
from diptych.nn.block import block_flops, build_blocks, init_blocks
from diptych.nn.linear import is_bare

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
        self.readers = nn.ModuleList(CrossBlock(config) for _ in range(config.layers))
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

    def read(self, pictures: Float[Tensor, "batch tokens width"]) -> list[Tensor]:
        """Each layer's keys and values of pictures, [batch, tokens, 2 width], which are the same
        for every word that is written."""
        return [reader.keys_values(pictures) for reader in self._readers()]

    def forward(
        self,
        texts: Float[Tensor, "texts length width"],
        read: Sequence[Float[Tensor, "pictures tokens two_widths"]],
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """See `Decoder.forward`."""
        x = texts
        for block, reader, picture in zip(self.blocks, self.readers, read, strict=True):
            x = reader(block(x, causal=True), read=picture)
        return self.logits(x[:, -1:] if last else x)

    def states(
        self,
        texts: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens width"],
    ) -> Float[Tensor, "texts length width"]:
        """See `Decoder.states`."""
        x = texts
        for block, reader in zip(self.blocks, self.readers, strict=True):
            x = reader(block(x, causal=True), pictures=pictures)
        return x

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """See `Decoder.logits`."""
        return self.projection(self.norm_post(states))

    @property
    def units(self) -> list[nn.Module]:
        """See `Decoder.units`: each block, and the reader behind it."""
        return [unit for pair in zip(self.blocks, self.readers, strict=True) for unit in pair]

    def _readers(self) -> Iterator["CrossBlock"]:
        for reader in self.readers:
            assert isinstance(reader, CrossBlock)
            yield reader

    def flops(self) -> int:
        """Of `forward` for one caption of full length and a picture of 255 tokens; a multiply-add
        counts two."""
        c = self.config
        length, width = c.context_length, c.width
        text = block_flops(length, width, c.mlp_width)
        products = 2 * 2 * length * width**2 + 2 * 2 * _PATCHES * width**2
        perceptron, attention = 4 * length * width * c.mlp_width, 4 * length * _PATCHES * width
        layers = c.layers * (text + products + perceptron + attention)
        return layers + 2 * length * width * c.vocab_size


class CrossBlock(nn.Module):
    """x + attention(norm(x), norm(picture)), then x + mlp(norm(x))."""

    def __init__(self, config: CocaDecoderConfig):
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.heads = config.heads
        self.norm_1 = nn.LayerNorm(width, eps)
        self.norm_keys = nn.LayerNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, config.mlp_width, config.activation)

    def init(self, residual: float) -> None:
        """As `init_blocks` fills a block of text; `residual`: the deviation at a branch's end."""
        width = self.norm_1.normalized_shape[0]
        for norm in (self.norm_1, self.norm_keys, self.norm_2):
            norm.reset_parameters()
        for linear, std in (
            (self.qkv, width**-0.5),
            (self.out, residual),
            (self.mlp.up, (2 * width) ** -0.5),
            (self.mlp.down, residual),
        ):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def keys_values(
        self, picture: Float[Tensor, "pictures tokens width"]
    ) -> Float[Tensor, "pictures tokens two_widths"]:
        """What texts attend to."""
        width, normed = picture.shape[-1], self.norm_keys(picture)
        if is_bare(self.qkv):  # the picture needs no queries
            return F.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:])
        return self.qkv(normed)[..., width:]

    def forward(
        self,
        x: Float[Tensor, "texts length width"],
        read: Float[Tensor, "pictures tokens two_widths"] | None = None,
        pictures: Float[Tensor, "pictures tokens width"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """The texts' tokens, having read the pictures', given as tokens or as their keys and
        values. Of several texts to each picture, those of one stand together."""
        # Training gives the pictures: on shards a unit's weights are whole only in its `forward`.
        # Who writes makes keys and values once, for all words, and gives those.
        if read is None:
            assert pictures is not None
            read = self.keys_values(pictures)
        # No token's sight depends on its place, so a picture's texts are read as one.
        beside = x.reshape(read.shape[0], -1, x.shape[-1])
        x = x + self._attend(self.norm_1(beside), read).view_as(x)
        return x + self.mlp(self.norm_2(x))

    def _attend(
        self,
        x: Float[Tensor, "pictures length width"],
        read: Float[Tensor, "pictures tokens two_widths"],
    ) -> Float[Tensor, "pictures length width"]:
        width = x.shape[-1]
        if is_bare(self.qkv):  # texts need no keys and values
            queries = F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width])
        else:
            queries = self.qkv(x)[..., :width]
        q = queries.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = read.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).flatten(2))
