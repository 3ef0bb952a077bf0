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
)
from diptych.nn.padding import for_heads


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


class _Branches(nn.Module):
    """What the branches of a block are made of."""

    reader_kind: ClassVar[Callable[..., ModernCrossAttention]] = ModernCrossAttention
    scale_kind: ClassVar[Callable[..., Any]] = BranchScale
    """What its parts are."""

    norm_reader: nn.Module
    reader: ModernCrossAttention | None
    norm_reader_post: nn.Module
    scale_reader: Any

    def _add_reader(self, options: BlockOptions) -> None:
        self.norm_reader = options.norm(options.width)
        self.reader = type(self).reader_kind(options)
        self.norm_reader_post, self.scale_reader = self._end(options)

    def _end(self, options: BlockOptions) -> tuple[nn.Module, Any]:
        """What a branch ends with."""
        norm = options.norm(options.width) if options.sandwich else nn.Identity()
        if options.layer_scale is None:
            return norm, nn.Identity()
        return norm, type(self).scale_kind(options.width, options.layer_scale)

    def _found(
        self,
        x: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "pictures tokens width"] | None,
        seen: Bool[Tensor, "pictures 1 1 tokens"] | None,
        read: Float[Tensor, "pictures tokens two_widths"] | None,
    ) -> Float[Tensor, "texts length width"]:
        """What is read of pictures: see `ModernCrossAttention.forward`."""
        assert self.reader is not None
        found = self.reader(self.norm_reader(x), pictures, seen, read)
        return self.scale_reader(self.norm_reader_post(found))


class ModernReader(_Branches):
    """x + reader(norm(x), picture), beside a block: what of `ModernBlock` only captions need.

    >>> import torch
    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_block import BlockOptions, ModernReader
    >>> reader = ModernReader(BlockOptions.of(ModernSizes(width=8, heads=2)))
    >>> reader(torch.zeros(2, 3, 8), pictures=torch.zeros(2, 5, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, options: BlockOptions):
        super().__init__()
        self._add_reader(options)

    def keys_values(
        self, pictures: Float[Tensor, "pictures tokens width"]
    ) -> Float[Tensor, "pictures tokens two_widths"]:
        """See `ModernCrossAttention.keys_values`."""
        assert self.reader is not None
        return self.reader.keys_values(pictures)

    def forward(
        self,
        x: Float[Tensor, "texts length width"],
        read: Float[Tensor, "pictures tokens two_widths"] | None = None,
        pictures: Float[Tensor, "pictures tokens width"] | None = None,
        seen: Bool[Tensor, "pictures tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """The texts' tokens, having read the pictures': as `nn.CrossBlock.forward`."""
        return x + self._found(x, pictures, for_heads(seen), read)


class ModernBlock(_Branches):
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
    gated_kind: ClassVar[Callable[..., Any]] = GatedMlp
    plain_kind: ClassVar[Callable[..., Any]] = Mlp
    """What its parts are."""

    def __init__(self, options: BlockOptions, first: bool = True, reads: bool = False):
        """`first`: whether it is the first block; `reads`: whether it may be given pictures."""
        super().__init__()
        kind, width, hidden = type(self), options.width, options.mlp_width
        self.norm_1 = options.norm(width)
        self.attention = kind.attention_kind(options, first)
        self.norm_1_post, self.scale_1 = self._end(options)
        self.reader = None
        if reads:
            self._add_reader(options)
        self.norm_2 = options.norm(width)
        self.mlp: Any = (
            kind.gated_kind(width, hidden, bias=options.mlp_bias)
            if options.mlp == "swiglu"
            else kind.plain_kind(width, hidden, options.mlp, bias=options.mlp_bias)
        )
        self.norm_2_post, self.scale_2 = self._end(options)

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
        beside: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch length width"], Tensor | None]:
        """Tokens, and the first block's values where they are mixed: see `ModernAttention.forward`
        and `ModernCrossAttention.forward`. Without pictures nothing is read. `beside`: a
        `ModernReader` that has its pictures, where the block has none of its own."""
        attended, first = self.attention(self.norm_1(x), rotary, mask, causal, first)
        x = x + self.scale_1(self.norm_1_post(attended))
        if self.reader is not None and (pictures is not None or read is not None):
            x = x + self._found(x, pictures, seen, read)
        if beside is not None:
            x = beside(x)
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
    beside: Sequence[Callable[[Tensor], Tensor] | None] | None = None,
) -> Iterator[Float[Tensor, "batch length width"]]:
    """`x` itself, then what each block leaves: see `ModernBlock.forward`. `read`: of each block
    that reads, the keys and values of pictures; `beside`: of each block, or None.

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
    for i, block in enumerate(each_block(blocks)):
        kept = next(ready) if read is not None and block.reader is not None else None
        with_reader = {} if beside is None else {"beside": beside[i]}
        x, first = block(x, rotary, mask, causal, first, pictures, seen, kept, **with_reader)
        yield x


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
