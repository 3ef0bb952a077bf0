"""The pre-norm transformer block that both of CLIP's transformers repeat."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.config import Activation
from diptych.nn.attention import Attention
from diptych.nn.mlp import Mlp, Nonlinear
from diptych.nn.rotary import Rotary
from diptych.nn.text_pieces import Pieces


class Block(nn.Module):
    """x + scale_1 attention(norm(x)), then x + scale_2 mlp(norm(x)). The scales, one for each
    channel, are there with a `layer_scale` alone, which they have at first (Touvron et al. 2021,
    arXiv:2103.17239).

    >>> import torch
    >>> from diptych.nn import Block
    >>> block = Block(width=8, heads=2, mlp_width=32, activation="gelu", eps=1e-5)
    >>> block(torch.zeros(1, 5, 8)).shape, block(torch.zeros(1, 5, 8), pick=(slice(None), 0)).shape
    (torch.Size([1, 5, 8]), torch.Size([1, 8]))
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        mlp_width: int,
        activation: Nonlinear,
        eps: float,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.layer_scale = layer_scale
        self.norm_1 = nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, mlp_width, activation)
        scaled = layer_scale is not None
        self.scale_1 = nn.Parameter(torch.empty(width)) if scaled else None
        self.scale_2 = nn.Parameter(torch.empty(width)) if scaled else None

    def forward(
        self,
        x: Float[Tensor, "*tokens width"],
        causal: bool = False,
        pick: tuple[Any, ...] | None = None,
        seen: Bool[Tensor, "*tokens"] | None = None,
        pieces: Pieces | None = None,
        rotary: Rotary | None = None,
        mask: Bool[Tensor, "batch tokens tokens"] | None = None,
        values: bool = False,
    ) -> Tensor:
        """All tokens: [batch, tokens, width], or [tokens, width] of `pieces`. With `pick`, only the
        token `x[pick]` of each row: [batch, width]. `rotary`: see `Attention.forward`.

        A tower's last block is asked for the pooled token alone: the others' queries and MLP, five
        sixths of the block, are then not computed. `seen` are the tokens that the picked one
        attends to (None: all). `mask`: see `Attention.forward`. `values`: what attention would add
        to each token if it attended to itself alone; neither the token nor the MLP.
        """
        if values:
            return _scaled(self.attention(self.norm_1(x), values=True), self.scale_1)
        attended = self.attention(self.norm_1(x), causal, pick, seen, pieces, rotary, mask)
        x = (x if pick is None else x[pick]) + _scaled(attended, self.scale_1)
        return x + _scaled(self.mlp(self.norm_2(x)), self.scale_2)


def _scaled(branch: Tensor, scale: Tensor | None) -> Tensor:
    return branch if scale is None else branch * scale.to(branch.dtype)


@runtime_checkable
class TransformerSizes(Protocol):
    """What a configuration says of its blocks."""

    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def norm_eps(self) -> float: ...


def build_blocks(config: TransformerSizes, layer_scale: float | None = None) -> nn.ModuleList:
    """The transformer that a configuration describes, without values. `layer_scale`: see
    `Block`."""
    return nn.ModuleList(
        Block(
            width=config.width,
            heads=config.heads,
            mlp_width=config.mlp_width,
            activation=config.activation,
            eps=config.norm_eps,
            layer_scale=layer_scale,
        )
        for _ in range(config.layers)
    )


def init_blocks(blocks: nn.ModuleList | list[nn.Module], width: int) -> None:
    """Fill every parameter of the transformer `blocks`, as CLIP does (arXiv:2103.00020, published
    code).

    | parameter                 | value                                        |
    | ------------------------- | -------------------------------------------- |
    | norm gain, bias           | 1, 0                                         |
    | attention.qkv.weight      | N(0, 1 / width)                              |
    | attention.out, mlp.down   | N(0, 1 / (2 layers width)), residual branches |
    | mlp.up.weight             | N(0, 1 / (2 width))                          |
    | biases                    | 0                                            |
    | scale_1, scale_2          | `Block.layer_scale`                          |
    """
    # Each block adds two branches to the stream. If each had variance v, the last block's output
    # would have 2 layers v more than the first one's input; a matrix at the end of a branch that is
    # smaller by sqrt(2 layers) keeps the stream's size whatever the depth.
    residual = (2 * len(blocks) * width) ** -0.5
    for block in blocks:
        assert isinstance(block, Block)
        for norm in (block.norm_1, block.norm_2):
            norm.reset_parameters()
        for linear, std in (
            (block.attention.qkv, width**-0.5),
            (block.attention.out, residual),
            (block.mlp.up, (2 * width) ** -0.5),
            (block.mlp.down, residual),
        ):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        for scale in (block.scale_1, block.scale_2):
            if scale is not None and block.layer_scale is not None:
                nn.init.constant_(scale, block.layer_scale)


def block_flops(tokens: int, width: int, mlp_width: int, matrices: int = 2) -> int:
    """Floating-point operations of one block over `tokens` tokens of one sample; a multiply-add
    counts two. The MLP has two `matrices`, a gated one three.

    >>> from diptych.nn.block import block_flops
    >>> round(12 * block_flops(50, 768, 3072) / 1e9, 2)
    8.59
    """
    return tokens * 2 * (4 * width**2 + matrices * width * mlp_width) + 4 * tokens**2 * width
