"""The block of a text's tokens that read a picture's."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.config import Activation
from diptych.nn.block import TransformerSizes
from diptych.nn.linear import is_bare
from diptych.nn.mlp import Mlp
from diptych.nn.padding import for_heads


class CrossBlock(nn.Module):
    """x + attention(norm(x), norm(picture)), then x + mlp(norm(x)).

    >>> import torch
    >>> from diptych.nn import CrossBlock
    >>> block = CrossBlock(width=8, heads=2, mlp_width=32, activation="gelu", eps=1e-5)
    >>> block(torch.zeros(2, 3, 8), pictures=torch.zeros(2, 5, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self, *, width: int, heads: int, mlp_width: int, activation: Activation, eps: float
    ):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, eps)
        self.norm_keys = nn.LayerNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, mlp_width, activation)

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
        seen: Bool[Tensor, "pictures tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """The texts' tokens, having read the pictures', given as tokens or as their keys and
        values; `seen`: which of them there are (None: all). Of several texts to each picture, those
        of one stand together."""
        # Training gives the pictures: on shards a unit's weights are whole only in its `forward`.
        # Who writes makes keys and values once, for all words, and gives those.
        if read is None:
            assert pictures is not None
            read = self.keys_values(pictures)
        # No token's sight depends on its place, so a picture's texts are read as one.
        beside = x.reshape(read.shape[0], -1, x.shape[-1])
        x = x + self._attend(self.norm_1(beside), read, seen).view_as(x)
        return x + self.mlp(self.norm_2(x))

    def _attend(
        self,
        x: Float[Tensor, "pictures length width"],
        read: Float[Tensor, "pictures tokens two_widths"],
        seen: Bool[Tensor, "pictures tokens"] | None,
    ) -> Float[Tensor, "pictures length width"]:
        width = x.shape[-1]
        if is_bare(self.qkv):  # texts need no keys and values
            queries = F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width])
        else:
            queries = self.qkv(x)[..., :width]
        q = queries.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = read.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=for_heads(seen))
        return self.out(attended.transpose(1, 2).flatten(2))


def build_readers(config: TransformerSizes, count: int) -> nn.ModuleList:
    """So many blocks of a decoder's sizes, without values."""
    return nn.ModuleList(
        CrossBlock(
            width=config.width,
            heads=config.heads,
            mlp_width=config.mlp_width,
            activation=config.activation,
            eps=config.norm_eps,
        )
        for _ in range(count)
    )


def cross_flops(length: int, tokens: int, width: int, mlp_width: int) -> int:
    """Floating-point operations of one block over a text of this length and a picture of so many
    tokens; a multiply-add counts two.

    >>> from diptych.nn.cross import cross_flops
    >>> cross_flops(2, 3, 4, 8)
    672
    """
    products = 2 * 2 * length * width**2 + 2 * 2 * tokens * width**2
    return products + 4 * length * width * mlp_width + 4 * length * tokens * width
