"""Multi-head self-attention: one product for queries, keys and values, torch's kernel in
between."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.nn.linear import is_bare
from diptych.nn.rotary import Rotary, rotate
from diptych.nn.text_pieces import Pieces, join, split


class Attending(nn.Module):
    """The base of layers that attend: called with what `forward` is called with, `weights` gives
    [batch, heads, queries, tokens], each query's shares of the tokens."""

    def weights(self, *inputs: Any, **options: Any) -> Float[Tensor, "batch heads queries tokens"]:
        """The shares."""
        raise NotImplementedError


def attention_weights(
    q: Float[Tensor, "batch heads queries channels"],
    k: Float[Tensor, "batch heads tokens channels"],
    mask: Tensor | None = None,
) -> Float[Tensor, "batch heads queries tokens"]:
    """softmax(q k^T / sqrt(channels)), in float32 at least."""
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * q.shape[-1] ** -0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)


class Attention(Attending):
    """Self-attention of `heads` heads over tokens of `width` (Vaswani et al. 2017,
    arXiv:1706.03762).

    No tensor is copied to rearrange heads: the kernel reads them strided and writes them side by
    side.

    >>> import torch
    >>> from diptych.nn import Attention
    >>> attention, x = Attention(width=8, heads=2), torch.zeros(1, 5, 8)
    >>> attention(x).shape, attention(x, pick=(slice(None), 0)).shape
    (torch.Size([1, 5, 8]), torch.Size([1, 8]))
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

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
        """All of [batch, tokens, width]; `causal`: a token sees itself and those before it; `mask`:
        each sees those where its row is true. With `pick`, only the token `x[pick]` of each row,
        which sees the tokens `seen` (None: all): [batch, width].

        With `pieces`, `x` is theirs, [tokens, width]. `rotary` turns the queries and keys of whole
        rows, [batch, tokens, width]. `values`: each token's own value alone, as though it attended
        to nothing but itself.
        """
        if values:
            return self.out(self.qkv(x)[..., 2 * x.shape[-1] :])
        if pick is not None:
            return self._one(x, pick, seen, pieces)
        qkv = self.qkv(x)
        if pieces is None:
            return self.out(self._attend(qkv, causal, rotary, mask))
        return self.out(join([self._attend(part, causal) for part in split(qkv, pieces)]))

    def weights(
        self,
        x: Float[Tensor, "batch tokens width"],
        causal: bool = False,
        pick: tuple[Any, ...] | None = None,
        seen: Bool[Tensor, "*tokens"] | None = None,
        pieces: Pieces | None = None,
        rotary: Rotary | None = None,
        mask: Bool[Tensor, "batch tokens tokens"] | None = None,
        values: bool = False,
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """softmax(q k^T / sqrt(channels)), given what `forward` is given of pictures: rows are
        queries, and sum to 1."""
        assert not causal
        assert pieces is None
        q, k, _ = self._heads(self.qkv(x), rotary)
        return attention_weights(q, k, None if mask is None else mask[:, None])

    def _heads(
        self, qkv: Float[Tensor, "batch tokens three_widths"], rotary: Rotary | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [batch, heads, tokens, channels]."""
        # One product instead of three: the input is read once, and one wide product keeps more
        # cores busy. Its rows are (q, k, v) x heads x channels of a head, so each of the three is a
        # strided view, which the kernel reads as it lies.
        apart = qkv.unflatten(-1, (3, self.heads, -1))
        q, k, v = apart.permute(2, 0, 3, 1, 4).unbind()
        if rotary is not None:
            # Queries and keys lie side by side, so one multiplication turns both. Values aren't
            # turned: a position is to decide what a token sees, not what it then reads.
            q, k = rotate(apart[:, :, :2], rotary).permute(2, 0, 3, 1, 4).unbind()
        return q, k, v

    def _attend(
        self,
        qkv: Float[Tensor, "batch tokens three_widths"],
        causal: bool,
        rotary: Rotary | None = None,
        mask: Bool[Tensor, "batch tokens tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Equation 1."""
        q, k, v = self._heads(qkv, rotary)
        # softmax(q k^T / sqrt(channels)) v. The root keeps the variance of the scores at 1,
        # whatever the number of channels.
        of_heads = None if mask is None else mask[:, None]  # the same for all heads
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=of_heads, is_causal=causal)
        # Heads side by side again; the kernel has written them so, and nothing is copied.
        return read.transpose(1, 2).flatten(2)

    def _one(
        self,
        x: Float[Tensor, "*tokens width"],
        pick: tuple[Any, ...],
        seen: Bool[Tensor, "*tokens"] | None,
        pieces: Pieces | None,
    ) -> Float[Tensor, "batch width"]:
        """Equation 1 with one query a row."""
        width = x.shape[-1]
        if is_bare(self.qkv):  # the others' queries, a third of the product, aren't needed
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(x[pick], weight[:width], bias[:width])
            keys_values = F.linear(x, weight[width:], bias[width:])
        else:
            qkv = self.qkv(x)
            query, keys_values = qkv[pick][..., :width], qkv[..., width:]
        if pieces is None:
            return self.out(self._read(query, keys_values, seen))
        queries = query.split([rows for rows, _ in pieces])
        masks = [None] * len(pieces) if seen is None else split(seen, pieces)
        reads = map(self._read, queries, split(keys_values, pieces), masks)
        return self.out(torch.cat(list(reads)))

    def _read(
        self,
        query: Float[Tensor, "batch width"],
        keys_values: Float[Tensor, "batch tokens two_widths"],
        seen: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch width"]:
        q = query.unflatten(-1, (self.heads, 1, -1))
        k, v = keys_values.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mask = None if seen is None else seen[:, None, None]  # the same for all heads
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1)
