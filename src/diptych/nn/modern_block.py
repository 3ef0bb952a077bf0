"""The block of recent language models, for texts alone and for texts that read pictures."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.config.modern import ModernSizes
from diptych.nn.block import block_flops
from diptych.nn.mlp import GatedMlp, Mlp
from diptych.nn.modern_attention import (
    BlockOptions,
    ModernAttention,
    ModernCrossAttention,
    init_attention,
    init_linear,
)

_FLAT = 0.02
"""The deviation of all matrices between norms on both sides (OLMo 2, arXiv:2501.00656)."""
_GATED = 1.22
"""u silu(v) of unit variance has 2.4 times less than GELU's hidden layer; so much larger matrices
make up for it, as open_clip measured."""


class BranchScale(nn.Module):
    """A learned factor on each channel of a branch (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, value: float):
        super().__init__()
        self.value = value
        self.gains = nn.Parameter(torch.empty(width))

    def reset_parameters(self) -> None:
        """Each factor begins as `value`."""
        nn.init.constant_(self.gains, self.value)

    def forward(self, x: Float[Tensor, "*tokens width"]) -> Float[Tensor, "*tokens width"]:
        """Of each token."""
        return x * self.gains


class ModernBlock(nn.Module):
    """x + attention(norm(x)); where it reads pictures, x + reader(norm(x), picture); then
    x + mlp(norm(x)). What options add to a branch stands at its end.

    >>> import torch
    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_block import BlockOptions, ModernBlock
    >>> block = ModernBlock(BlockOptions.of(ModernSizes(width=8, heads=2, mlp_width=16)))
    >>> block(torch.zeros(1, 5, 8), causal=True)[0].shape
    torch.Size([1, 5, 8])
    """

    attention_kind: ClassVar[Callable[..., ModernAttention]] = ModernAttention
    reader_kind: ClassVar[Callable[..., ModernCrossAttention]] = ModernCrossAttention
    gated_kind: ClassVar[Callable[..., Any]] = GatedMlp
    plain_kind: ClassVar[Callable[..., Any]] = Mlp
    scale_kind: ClassVar[Callable[..., Any]] = BranchScale
    """What its parts are."""

    norm_reader: nn.Module
    norm_reader_post: nn.Module
    scale_reader: Any

    def __init__(self, options: BlockOptions, first: bool = True, reads: bool = False):
        """`first`: whether it is the first block; `reads`: whether it may be given pictures."""
        super().__init__()
        kind, width, hidden = type(self), options.width, options.mlp_width
        self.norm_1 = options.norm(width)
        self.attention = kind.attention_kind(options, first)
        self.norm_1_post, self.scale_1 = self._end(options)
        self.reader: ModernCrossAttention | None = None
        if reads:
            self.norm_reader = options.norm(width)
            self.reader = kind.reader_kind(options)
            self.norm_reader_post, self.scale_reader = self._end(options)
        self.norm_2 = options.norm(width)
        self.mlp: Any = (
            kind.gated_kind(width, hidden, bias=options.mlp_bias)
            if options.mlp == "swiglu"
            else kind.plain_kind(width, hidden, options.mlp, bias=options.mlp_bias)
        )
        self.norm_2_post, self.scale_2 = self._end(options)

    def _end(self, options: BlockOptions) -> tuple[nn.Module, Any]:
        """What a branch ends with."""
        norm = options.norm(options.width) if options.sandwich else nn.Identity()
        if options.layer_scale is None:
            return norm, nn.Identity()
        return norm, type(self).scale_kind(options.width, options.layer_scale)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        rotary: Tensor | None = None,
        mask: Bool[Tensor, "batch 1 #length length"] | None = None,
        causal: bool = False,
        first: Tensor | None = None,
        pictures: Float[Tensor, "pictures tokens width"] | None = None,
        seen: Bool[Tensor, "pictures 1 1 tokens"] | None = None,
        read: Float[Tensor, "pictures tokens two_widths"] | None = None,
    ) -> tuple[Float[Tensor, "batch length width"], Tensor | None]:
        """Tokens, and the first block's values where they are mixed: see `ModernAttention.forward`
        and `ModernCrossAttention.forward`. Without pictures nothing is read."""
        attended, first = self.attention(self.norm_1(x), rotary, mask, causal, first)
        x = x + self.scale_1(self.norm_1_post(attended))
        if self.reader is not None and (pictures is not None or read is not None):
            found = self.reader(self.norm_reader(x), pictures, seen, read)
            x = x + self.scale_reader(self.norm_reader_post(found))
        return x + self.scale_2(self.norm_2_post(self.mlp(self.norm_2(x)))), first


def modern_blocks(
    options: BlockOptions,
    layers: int,
    step: int = 0,
    kind: Callable[[BlockOptions, bool, bool], ModernBlock] = ModernBlock,
) -> nn.ModuleList:
    """So many blocks, without values. Each `step`-th of them, the first among them, may read
    pictures; 0: none.

    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_block import BlockOptions, modern_blocks
    >>> blocks = modern_blocks(BlockOptions.of(ModernSizes(width=8, heads=2)), 3, step=2)
    >>> [block.reader is not None for block in blocks]
    [True, False, True]
    """
    return nn.ModuleList(kind(options, i == 0, step > 0 and i % step == 0) for i in range(layers))


def each_block(blocks: Any) -> Iterator[ModernBlock]:
    """Of a list of modules, all of this kind."""
    for block in blocks:
        assert isinstance(block, ModernBlock)
        yield block


def run_blocks(blocks: Any, x: Tensor, *given: Any, **options: Any) -> Tensor:
    """What the last block leaves: see `block_states`."""
    return deque(block_states(blocks, x, *given, **options), maxlen=1).pop()


def block_states(
    blocks: Any,
    x: Float[Tensor, "batch length width"],
    rotary: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    pictures: Tensor | None = None,
    seen: Tensor | None = None,
    read: Sequence[Tensor] | None = None,
) -> Iterator[Float[Tensor, "batch length width"]]:
    """`x` itself, then what each block leaves: see `ModernBlock.forward`. `read`: of each block
    that reads, the keys and values of pictures.

    >>> import torch
    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_block import BlockOptions, block_states, modern_blocks
    >>> options = BlockOptions.of(ModernSizes(width=8, heads=2, mlp_width=16))
    >>> blocks = modern_blocks(options, layers=3)
    >>> len(list(block_states(blocks, torch.zeros(1, 5, 8), causal=True)))
    4
    """
    first, ready = None, iter(read or ())
    yield x
    for block in each_block(blocks):
        kept = next(ready) if read is not None and block.reader is not None else None
        x, first = block(x, rotary, mask, causal, first, pictures, seen, kept)
        yield x


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
    std, residual = width**-0.5, (2 * len(blocks) * width) ** -0.5
    up, gated = (2 * width) ** -0.5, _GATED * (2 * width) ** -0.5
    if sandwich:
        std = residual = up = gated = _FLAT

    def end(matrix: Tensor) -> None:
        nn.init.normal_(matrix, std=0 if zero_residual else residual)

    for block in each_block(blocks):
        for part in (block.attention, block.reader):
            if part is not None:
                init_attention(part, std, end)
        mlp = block.mlp
        if isinstance(mlp, GatedMlp):
            init_linear(mlp.gate_up, gated)
        else:
            init_linear(mlp.up, up)
        init_linear(mlp.down, residual)
        end(mlp.down.weight)
        for part in block.modules():
            if isinstance(part, nn.RMSNorm | nn.LayerNorm):
                part.reset_parameters()
        scales = (block.scale_1, block.scale_2, *((block.scale_reader,) if block.reader else ()))
        for scale in scales:
            if not isinstance(scale, nn.Identity):
                scale.reset_parameters()


def modern_flops(sizes: ModernSizes, length: int, step: int = 0, pictures: int = 0) -> int:
    """Floating-point operations of the blocks over `length` tokens of one text that reads
    `pictures` tokens; a multiply-add counts two."""
    width, gate = sizes.width, 2 * length * sizes.width**2 * sizes.gated
    matrices = 3 if sizes.mlp == "swiglu" else 2
    block = block_flops(length, width, sizes.mlp_width, matrices) + gate
    products = 4 * (length + pictures) * width**2 + gate
    reader = products + 4 * length * pictures * width
    readers = math.ceil(sizes.layers / step) if step else 0
    return sizes.layers * block + readers * reader
