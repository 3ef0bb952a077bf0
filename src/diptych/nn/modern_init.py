"""How the blocks of recent language models begin."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn

from diptych.nn.mlp import GatedMlp
from diptych.nn.modern_attention import init_attention, init_linear
from diptych.nn.modern_block import ModernReader, each_block

_FLAT = 0.02
"""The deviation of all matrices between norms on both sides (OLMo 2, arXiv:2501.00656)."""
_GATED = 1.22
"""u silu(v) of unit variance has 2.4 times less than GELU's hidden layer; so much larger matrices
make up for it, as open_clip measured."""


def init_modern_blocks(
    blocks: Any, width: int, sandwich: bool = False, zero_residual: bool = False
) -> None:
    """Fill every parameter of `blocks`, as open_clip does; with norms on both sides of a branch
    (`sandwich`), all matrices N(0, 0.02^2).

    | parameter                            | value                                            |
    | ------------------------------------ | ------------------------------------------------ |
    | norms, biases, factors               | gain 1 and bias 0, 0, `ModernSizes.layer_scale`  |
    | attention.qkv, reader.q, kv, gates   | N(0, 1 / width); a gate's bias 1                 |
    | mlp.gate_up, mlp.up                  | N(0, 1.22^2 / (2 width)), N(0, 1 / (2 width))    |
    | attention.out, reader.out, mlp.down  | N(0, 1 / (2 layers width)), or with              |
    |                                      | `zero_residual` 0                                |
    | attention.value_mix                  | 0.5                                              |
    """
    spread = _Spread.of(len(blocks), width, sandwich, zero_residual)
    up = _FLAT if sandwich else (2 * width) ** -0.5
    for block in each_block(blocks):
        for part in (block.attention, block.reader):
            if part is not None:
                init_attention(part, spread.std, spread.end)
        mlp = block.mlp
        if isinstance(mlp, GatedMlp):
            init_linear(mlp.gate_up, up if sandwich else _GATED * up)
        else:
            init_linear(mlp.up, up)
        init_linear(mlp.down, spread.residual)
        spread.end(mlp.down.weight)
        scales = (block.scale_1, block.scale_2, *((block.scale_reader,) if block.reader else ()))
        _reset(block, *scales)


def init_modern_readers(
    readers: Iterable[ModernReader],
    layers: int,
    width: int,
    sandwich: bool = False,
    zero_residual: bool = False,
) -> None:
    """Fill every parameter of `readers` as `init_modern_blocks` fills those within a block, of so
    many `layers`."""
    spread = _Spread.of(layers, width, sandwich, zero_residual)
    for reader in readers:
        assert reader.reader is not None
        init_attention(reader.reader, spread.std, spread.end)
        _reset(reader, reader.scale_reader)


class _Spread(NamedTuple):
    """Deviations of matrices: at the beginning of a branch, and at its end."""

    std: float
    residual: float
    zero_residual: bool

    @classmethod
    def of(cls, layers: int, width: int, sandwich: bool, zero_residual: bool) -> "_Spread":
        if sandwich:
            return cls(_FLAT, _FLAT, zero_residual)
        return cls(width**-0.5, (2 * layers * width) ** -0.5, zero_residual)

    def end(self, matrix: Tensor) -> None:
        """Fill the last matrix of a branch."""
        nn.init.normal_(matrix, std=0 if self.zero_residual else self.residual)


def _reset(module: nn.Module, *scales: Any) -> None:
    """Norms and factors as they begin."""
    norms = [part for part in module.modules() if isinstance(part, nn.RMSNorm | nn.LayerNorm)]
    for part in (*norms, *scales):
        if not isinstance(part, nn.Identity):
            part.reset_parameters()
