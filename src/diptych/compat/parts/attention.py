"""Attention as open_clip's own towers have it where torch's layer isn't enough.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.compat.parts.layers import Layer, LayerNorm, LayerNormFp32


class Attention(nn.Module):
    """Self-attention with the options of open_clip's custom blocks, of which no published model has
    any; names of weights are those of `nn.MultiheadAttention`.

    | option          | what it does                                                              |
    | --------------- | ------------------------------------------------------------------------- |
    | `qk_norm`       | a norm over each head's queries and keys (arXiv:2302.05442)               |
    | `scaled_cosine` | cosines times a learned factor per head, at most exp(`logit_scale_max`)   |
    |                 | (arXiv:2111.09883)                                                        |
    | `scale_heads`   | a learned factor on each head's output (arXiv:2110.09456)                 |
    | `inner_norm`    | a norm before the output's projection (arXiv:2210.06423)                  |

    >>> import torch
    >>> from diptych.compat.transformer import Attention
    >>> Attention(16, num_heads=2, qk_norm=True)(torch.zeros(1, 5, 16)).shape
    torch.Size([1, 5, 16])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        scaled_cosine: bool = False,
        scale_heads: bool = False,
        inner_norm: bool = False,
        logit_scale_max: float = math.log(1 / 0.01),
        norm_layer: Layer = LayerNormFp32,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        """Raises AssertionError, as open_clip does, for a width that the heads can't share, and for
        both ways of bounding scores."""
        super().__init__()
        if dim % num_heads:
            raise AssertionError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        if scaled_cosine and qk_norm:
            raise AssertionError("scaled_cosine and qk_norm exclude each other")
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.logit_scale_max = logit_scale_max
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim)) if qkv_bias else None
        self.ln_q = norm_layer(self.head_dim) if qk_norm else nn.Identity()
        self.ln_k = norm_layer(self.head_dim) if qk_norm else nn.Identity()
        each = (num_heads, 1, 1)
        self.logit_scale = nn.Parameter(torch.full(each, math.log(10))) if scaled_cosine else None
        self.attn_drop = nn.Dropout(attn_drop)
        self.head_scale = nn.Parameter(torch.ones(each)) if scale_heads else None
        self.ln_inner = norm_layer(dim) if inner_norm else nn.Identity()
        self.out_proj = nn.Linear(dim, dim)
        self.out_drop = nn.Dropout(proj_drop)
        nn.init.normal_(self.in_proj_weight, std=self.head_dim**-0.5)

    def forward(
        self, x: Float[Tensor, "batch length dim"], attn_mask: Tensor | None = None
    ) -> Float[Tensor, "batch length dim"]:
        """`attn_mask` is added to the scores, or true where a token isn't seen: [length, length],
        or [batch * heads, length, length]."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        # [batch, length, (q, k, v) heads channels] -> [batch, heads, length, channels] each
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        scale = None
        if self.logit_scale is None:
            q, k = self.ln_q(q), self.ln_k(k)
        else:
            # Cosines, each head's times its own factor: which goes to the queries, for the kernel
            # knows one factor for all.
            factor = self.logit_scale.clamp(max=self.logit_scale_max).exp().to(q.dtype)
            q, k, scale = F.normalize(q, dim=-1) * factor, F.normalize(k, dim=-1), 1.0
        drop = self.attn_drop.p if self.training else 0.0
        mask = _added(attn_mask, q, self.num_heads)
        read = F.scaled_dot_product_attention(q, k, v, mask, drop, scale=scale)
        if self.head_scale is not None:
            read = read * self.head_scale
        return self.out_drop(self.out_proj(self.ln_inner(read.transpose(1, 2).flatten(2))))


class AttentionalPooler(nn.Module):
    """Learned queries over all tokens, CoCa's.

    >>> import torch
    >>> from diptych.compat.transformer import AttentionalPooler
    >>> AttentionalPooler(8, context_dim=12, n_head=2, n_queries=3)(torch.zeros(1, 5, 12)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        context_dim: int,
        n_head: int = 8,
        n_queries: int = 256,
        norm_layer: Layer = LayerNorm,
    ):
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_queries, d_model))
        self.attn: Any = nn.MultiheadAttention(
            d_model, n_head, kdim=context_dim, vdim=context_dim, batch_first=True
        )
        self.ln_q, self.ln_k = norm_layer(d_model), norm_layer(context_dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens context"],
        key_valid: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """The queries' answers; `key_valid`: which tokens aren't padding (None: all)."""
        x = self.ln_k(x)
        queries = self.ln_q(self.query).to(x.dtype).expand(x.shape[0], -1, -1)
        seen = context_attn_mask_from_valid(key_valid)
        hidden = None if seen is None else ~seen[:, 0, 0]
        return self.attn(queries, x, x, need_weights=False, key_padding_mask=hidden)[0]


def context_attn_mask_from_valid(
    context_valid: Tensor | None,
) -> Bool[Tensor, "batch 1 1 tokens"] | None:
    """Which tokens of a context are seen, of 1 (or true) for each that isn't padding; a context of
    padding alone is seen, so that no sum over nothing makes NaN. None: all, as None.

    >>> import torch
    >>> from diptych.compat.transformer import context_attn_mask_from_valid
    >>> context_attn_mask_from_valid(torch.tensor([[1, 0], [0, 0]])).flatten(1).tolist()
    [[True, False], [True, True]]
    """
    if context_valid is None:
        return None
    seen = context_valid.bool()
    return (seen | ~seen.any(dim=1, keepdim=True))[:, None, None]


def _added(mask: Tensor | None, q: Tensor, heads: int) -> Tensor | None:
    """What torch's kernel adds to the scores."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -torch.inf)
    return (mask if mask.ndim == 2 else mask.unflatten(0, (-1, heads))).to(q.dtype)
