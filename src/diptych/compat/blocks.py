"""The blocks of open_clip's own transformers, by its names and with its signatures, so that code
which reaches into a model finds what it looks for, and what it runs or replaces there is what the
model computes.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.config import Activation
from diptych.nn.block import TransformerSizes
from diptych.nn.mlp import QUICK
from diptych.nn.patch import PatchDropout as _PatchDropout


class LayerNorm(nn.LayerNorm):
    """In the precision of its weights, and back in that of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return super().forward(input.to(self.weight.dtype)).to(input.dtype)


LayerNormFp32 = LayerNorm
"""open_clip's other name, for models in half precision."""


class QuickGELU(nn.Module):
    """z * sigmoid(1.702 z)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of each number."""
        return x * torch.sigmoid(QUICK * x)


class PatchDropout(_PatchDropout):
    """Leaves patches out in training, but never the first token."""

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch kept width"]:
        """The kept tokens."""
        if not self.training or self.share == 0:
            return x
        return torch.cat([x[:, :1], super().forward(x[:, 1:])], dim=1)


class AttentionalPooler(nn.Module):
    """Learned queries over all tokens, CoCa's."""

    def __init__(self, width: int, context: int, heads: int, queries: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(queries, width))
        self.attn = nn.MultiheadAttention(
            width, heads, kdim=context, vdim=context, batch_first=True
        )
        self.ln_q, self.ln_k = LayerNorm(width), LayerNorm(context)

    def forward(self, x: Float[Tensor, "batch tokens context"]) -> Tensor:
        """[batch, queries, width]."""
        x = self.ln_k(x)
        queries = self.ln_q(self.query).to(x.dtype).expand(x.shape[0], -1, -1)
        return self.attn(queries, x, x, need_weights=False)[0]


class ResidualAttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Tokens are [batch, length, width]; with `length_first`, OpenAI's, [length, batch, width], and
    the block knows its own `attn_mask`.
    """

    def __init__(self, sizes: TransformerSizes, length_first: bool = False):
        super().__init__()
        width = sizes.width
        self.batch_first = not length_first
        self.ln_1 = LayerNorm(width, sizes.norm_eps)
        self.attn = nn.MultiheadAttention(width, sizes.heads, batch_first=self.batch_first)
        self.ls_1 = nn.Identity()
        self.ln_2 = LayerNorm(width, sizes.norm_eps)
        layers: dict[str, nn.Module] = OrderedDict(
            c_fc=nn.Linear(width, sizes.mlp_width),
            gelu=_activation(sizes.activation),
            c_proj=nn.Linear(sizes.mlp_width, width),
        )
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", None, persistent=False)

    def get_weight_dtype(self) -> torch.dtype:
        """Of the perceptron's first matrix."""
        first: Any = self.mlp[0]
        return first.weight.dtype

    def attention(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """The first branch, of normalised tokens; `attn_mask` [length, length] or [batch * heads,
        length, length] is added to the scores."""
        mask = self.attn_mask if attn_mask is None else attn_mask
        mask = None if mask is None else mask.to(device=q_x.device)
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q_x.dtype)
        keys = q_x if k_x is None else k_x
        values = q_x if v_x is None else v_x
        return self.attn(q_x, keys, values, need_weights=False, attn_mask=mask)[0]

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """As the class says. Where the mask tells that the length comes first, as scripts of
        open_clip before 2.25 have it, it comes first in the result, too."""
        if self.batch_first and k_x is None and _length_first(q_x, attn_mask):
            return self(q_x.transpose(0, 1), attn_mask=attn_mask).transpose(0, 1)
        x = q_x + self.ls_1(self.attention(self.ln_1(q_x), k_x, v_x, attn_mask))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """`resblocks`, one after the other."""

    def __init__(self, sizes: TransformerSizes, length_first: bool = False):
        super().__init__()
        self.width = sizes.width
        self.layers = sizes.layers
        self.batch_first = not length_first
        self.grad_checkpointing = False
        """Whether each block's activations are computed again in the backward pass."""
        self.resblocks: Any = self._blocks(sizes, length_first)

    @staticmethod
    def _blocks(sizes: TransformerSizes, length_first: bool) -> nn.Module:
        blocks = [ResidualAttentionBlock(sizes, length_first) for _ in range(sizes.layers)]
        # OpenAI's are called as one; both are indexed, iterated over and cut alike.
        return nn.Sequential(*blocks) if length_first else nn.ModuleList(blocks)

    def get_cast_dtype(self) -> torch.dtype:
        """Of the blocks' matrices."""
        return self.resblocks[0].get_weight_dtype()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Set `grad_checkpointing`."""
        self.grad_checkpointing = enable

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Tokens -> tokens, of the shape that the blocks take."""
        for block in self.resblocks:
            x = self._run(block, x, attn_mask)
        return x

    def forward_intermediates(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """The tokens behind the last block that ran, and those behind the blocks of `indices` (a
        number: the last so many; None: all)."""
        chosen = taken_indices(len(self.resblocks), indices)
        blocks = self.resblocks[: max(chosen) + 1] if stop_early else self.resblocks
        found: list[Tensor] = []
        for i, block in enumerate(blocks):
            x = self._run(block, x, attn_mask)
            if i in chosen:
                found.append(x)
        return x, found

    def prune_intermediate_layers(self, indices: int | Collection[int] = 1) -> list[int]:
        """Drop the blocks behind the last of `indices`, which are given back as numbers."""
        chosen = taken_indices(len(self.resblocks), indices)
        self.resblocks = self.resblocks[: max(chosen) + 1]
        return chosen

    def _run(self, block: nn.Module, x: Tensor, attn_mask: Tensor | None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            again: Any = checkpoint(block, x, None, None, attn_mask, use_reentrant=False)
            return again
        return block(x, attn_mask=attn_mask)


def taken_indices(count: int, indices: int | Collection[int] | None) -> list[int]:
    """Which of `count` blocks are meant: the last so many, or those of these numbers, from the end
    where they are negative; None: all. Raises AssertionError, as open_clip does, for others.

    >>> from diptych.compat.blocks import taken_indices
    >>> taken_indices(12, 2), taken_indices(12, [0, -1]), taken_indices(2, None)
    ([10, 11], [0, 11], [0, 1])
    """
    last = count if indices is None else indices
    if isinstance(last, int):
        if not 0 < last <= count:
            raise AssertionError(f"last-n ({last}) is out of range (1 to {count})")
        return list(range(count - last, count))
    for i in last:
        if not -count <= i < count:
            raise AssertionError(f"feature index {i} is out of range (0 to {count - 1})")
    return [i % count for i in last]


def text_global_pool(
    x: Float[Tensor, "batch length width"],
    text: Tensor | None = None,
    pool_type: str = "argmax",
    eos_token_id: int | None = None,
) -> Tensor:
    """The token that stands for a text: the `first`, the `last`, that of the highest id (`argmax`)
    or that of `eos_token_id` (`eos`); any other `pool_type`: all."""
    if pool_type in ("first", "last"):
        return x[:, 0] if pool_type == "first" else x[:, -1]
    if pool_type not in ("argmax", "eos"):
        return x
    assert text is not None
    end = text if pool_type == "argmax" else (text == eos_token_id).int()
    return x[torch.arange(x.shape[0], device=x.device), end.argmax(dim=-1)]


def _expand_token(  # pyright: ignore[reportUnusedFunction]: compat.transformer has it
    token: Tensor, batch_size: int
) -> Tensor:
    """[width] -> [batch_size, 1, width]."""
    return token.view(1, 1, -1).expand(batch_size, -1, -1)


def causal_mask(length: int) -> Float[Tensor, "length length"]:
    """What is added to scores, so that no token sees a later one."""
    return torch.full((length, length), -torch.inf).triu(1)


def _length_first(x: Tensor, mask: Tensor | None) -> bool:
    if mask is None or mask.ndim != 2:
        return False
    return bool(x.shape[0] == len(mask) != x.shape[1])  # sizes are tensors in a trace


def _activation(kind: Activation) -> nn.Module:
    if kind == "quick_gelu":
        return QuickGELU()
    return nn.GELU("tanh" if kind == "gelu_tanh" else "none")


__all__ = [
    "AttentionalPooler",
    "LayerNorm",
    "LayerNormFp32",
    "PatchDropout",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "causal_mask",
    "taken_indices",
    "text_global_pool",
]
