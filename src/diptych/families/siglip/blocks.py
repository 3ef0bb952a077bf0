"""How both of SigLIP's transformers begin, and the pool that reads out the image tower's."""

from torch import nn

from diptych.nn import Mlp, QueryPool
from diptych.nn.block import Block

_BIAS = 1e-6
"""Standard deviation of the perceptrons' biases."""


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


def init_pool(pool: QueryPool) -> None:
    """Fill every parameter of the pool: see `init_blocks`; the query's numbers are uniform, too."""
    nn.init.xavier_uniform_(pool.query[None])
    _init_attention(pool.qkv, pool.out)
    pool.norm.reset_parameters()
    _init_mlp(pool.mlp)


def _init_attention(qkv: nn.Linear, out: nn.Linear) -> None:
    for matrix in (*qkv.weight.chunk(3), out.weight):  # each of the three has its own fan out
        nn.init.xavier_uniform_(matrix)
    nn.init.zeros_(qkv.bias)
    nn.init.zeros_(out.bias)


def _init_mlp(mlp: Mlp) -> None:
    for linear in (mlp.up, mlp.down):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.normal_(linear.bias, std=_BIAS)
