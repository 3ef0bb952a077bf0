"""The pool by which a learned query reads out a transformer's tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.config import Activation
from diptych.nn.attention import Attending, attention_weights
from diptych.nn.linear import is_bare
from diptych.nn.mlp import Mlp


class QueryPool(Attending):
    """One learned query over all tokens, then a residual perceptron: the multi-head attention pool
    of Zhai et al. (2022, arXiv:2106.04560, §3.2).

    >>> import torch
    >>> from diptych.nn import QueryPool
    >>> pool = QueryPool(width=8, heads=2, mlp_width=16, activation="gelu_tanh", eps=1e-6)
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

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch width"]:
        """The tokens that are `seen` (None: all), read out."""
        width = x.shape[-1]
        if is_bare(self.qkv):  # the tokens need no queries, and the query no key and value
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(self.query, weight[:width], bias[:width])
            keys_values = F.linear(x, weight[width:], bias[width:])
        else:
            query, keys_values = self.qkv(self.query)[:width], self.qkv(x)[..., width:]
        q = query.view(1, self.heads, 1, -1).expand(x.shape[0], -1, -1, -1)
        k, v = keys_values.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        read = self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=_mask(seen)).flatten(1))
        return read + self.mlp(self.norm(read))

    def read_each(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Of each token, what a call would give if there were no other."""
        return self(x.flatten(0, 1)[:, None]).unflatten(0, x.shape[:2])

    def weights(
        self,
        x: Float[Tensor, "batch tokens width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch heads 1 tokens"]:
        """How much the query takes of each token."""
        width = x.shape[-1]
        q = self.qkv(self.query)[:width].view(1, self.heads, 1, -1).expand(x.shape[0], -1, -1, -1)
        k = self.qkv(x)[..., width : 2 * width].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return attention_weights(q, k, _mask(seen))

    def flops(self, tokens: int) -> int:
        """Of `forward` for one row of so many tokens; a multiply-add counts two."""
        width, hidden = len(self.query), self.mlp.up.out_features
        query_and_out, keys_values = 2 * 2 * width**2, 2 * tokens * 2 * width**2
        return query_and_out + keys_values + 4 * tokens * width + 4 * width * hidden


def _mask(seen: Tensor | None) -> Tensor | None:
    """The same for all heads."""
    return None if seen is None else seen[:, None, None]
