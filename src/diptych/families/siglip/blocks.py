"""How both of SigLIP's transformers begin, and the pool that reads out the image tower's."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.config import Activation
from diptych.nn import Mlp, is_bare
from diptych.nn.block import Block

_BIAS = 1e-6
"""Standard deviation of the perceptrons' biases."""


class AttentionPool(nn.Module):
    """One learned query over all tokens, then a residual perceptron: the multi-head attention pool
    of Zhai et al. (2022, arXiv:2106.04560, §3.2).

    >>> import torch
    >>> from diptych.families.siglip.blocks import AttentionPool
    >>> pool = AttentionPool(width=8, heads=2, mlp_width=16, activation="gelu_tanh", eps=1e-6)
    >>> pool(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 8])
    """

    def __init__(
        self, *, width: int, heads: int, mlp_width: int, activation: Activation, eps: float
    ):
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.empty(width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, mlp_width, activation)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch width"]:
        """The tokens, read out."""
        width = x.shape[-1]
        if is_bare(self.qkv):  # the tokens need no queries, and the query no key and value
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(self.query, weight[:width], bias[:width])
            keys_values = F.linear(x, weight[width:], bias[width:])
        else:
            query, keys_values = self.qkv(self.query)[:width], self.qkv(x)[..., width:]
        q = query.view(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        k, v = keys_values.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        read = self.out(F.scaled_dot_product_attention(q, k, v).flatten(1))
        return read + self.mlp(self.norm(read))

    def init(self) -> None:
        """See `init_blocks`; the query's numbers are uniform, too."""
        nn.init.xavier_uniform_(self.query[None])
        _init_attention(self.qkv, self.out)
        self.norm.reset_parameters()
        _init_mlp(self.mlp)


def init_blocks(blocks: nn.ModuleList | list[nn.Module]) -> None:
    """Fill every parameter of the transformer `blocks`, as the published code does (big_vision).

    | parameter                        | value                                        |
    | -------------------------------- | -------------------------------------------- |
    | norm gain, bias                  | 1, 0                                         |
    | queries, keys, values, out, up, down | uniform, variance 2 / (fan in + fan out) |
    | biases of attention, perceptron  | 0, N(0, 1e-12)                               |
    """
    for block in blocks:
        assert isinstance(block, Block)
        block.norm_1.reset_parameters()
        block.norm_2.reset_parameters()
        _init_attention(block.attention.qkv, block.attention.out)
        _init_mlp(block.mlp)


def _init_attention(qkv: nn.Linear, out: nn.Linear) -> None:
    for matrix in (*qkv.weight.chunk(3), out.weight):  # each of the three has its own fan out
        nn.init.xavier_uniform_(matrix)
    nn.init.zeros_(qkv.bias)
    nn.init.zeros_(out.bias)


def _init_mlp(mlp: Mlp) -> None:
    for linear in (mlp.up, mlp.down):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.normal_(linear.bias, std=_BIAS)
