"""Multi-head self-attention: one product for queries, keys and values, torch's kernel in
between."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention of `heads` heads over tokens of `width` (Vaswani et al. 2017,
    arXiv:1706.03762).

    No tensor is copied to rearrange heads: the kernel reads them strided and writes them side by
    side.

    >>> import torch
    >>> from diptych.nn import Attention
    >>> Attention(width=8, heads=2)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch tokens width"], causal: bool = False) -> Tensor:
        """[batch, tokens, width] -> the same shape; `causal`: a token sees itself and those before
        it."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return self.out(
            F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        )

    def read(
        self,
        query: Float[Tensor, "batch width"],
        x: Float[Tensor, "batch tokens width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch width"]:
        """What `forward` gives for one token a row, whose input is `query`; it sees the tokens
        `seen` (None: all)."""
        width = query.shape[-1]
        q = F.linear(query, self.qkv.weight[:width], self.qkv.bias[:width]).unflatten(
            -1, (self.heads, 1, -1)
        )
        kv = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mask = None if seen is None else seen[:, None, None]
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1))
