"""How recent text towers read a text out."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.nn.modern_attention import BlockOptions, heads_apart, init_linear
from diptych.nn.padding import mean_of_real

Reading = Literal["end", "mean", "query"]


class ModernPool(nn.Module):
    """One vector of a text's tokens. `end`: that of the first end of text, or the last token where
    there is none. `mean`: of all but the padding. `query`: what a learned query reads of these.

    >>> import torch
    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_pool import BlockOptions, ModernPool
    >>> pool = ModernPool(BlockOptions.of(ModernSizes(width=8, heads=2)), "mean")
    >>> ids = torch.tensor([[3, 1, 0]])
    >>> pool(torch.ones(1, 3, 8), ids, ids != 0, end_id=1).shape
    torch.Size([1, 8])
    """

    query: nn.Parameter | None

    def __init__(self, options: BlockOptions, reading: Reading):
        super().__init__()
        self.reading, self.heads = reading, options.heads
        if reading != "query":
            self.query = None
            return
        width, head_dim = options.width, options.width // options.heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.q = nn.Linear(width, width, bias=options.attention_bias)
        self.kv = nn.Linear(width, 2 * width, bias=options.attention_bias)
        self.norm_queries, self.norm_keys = nn.Identity(), nn.Identity()
        if options.qk_norm:
            self.norm_queries, self.norm_keys = (options.norm(head_dim) for _ in range(2))

    def init(self) -> None:
        """Fill every parameter: norms with gain 1 and bias 0, all else N(0, 1 / width), biases
        0."""
        if self.query is None:
            return
        std = self.query.shape[-1] ** -0.5
        nn.init.normal_(self.query, std=std)
        for linear in (self.q, self.kv):
            init_linear(linear, std)
        for norm in (self.norm_queries, self.norm_keys):
            if isinstance(norm, nn.RMSNorm | nn.LayerNorm):
                norm.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"],
        end_id: int | None = None,
    ) -> Float[Tensor, "batch width"]:
        """Of tokens behind the final norm; `real`: see `nn.padding.real_tokens`."""
        if self.reading == "mean":
            return mean_of_real(x, real)
        if self.reading == "end":
            return x[torch.arange(len(x), device=x.device), text_ends(ids, real, end_id)]
        assert self.query is not None
        q = self.q(self.query.to(x.dtype).expand(len(x), -1, -1))
        (q,) = heads_apart(q, 1, self.heads)
        k, v = heads_apart(self.kv(x), 2, self.heads)
        q, k = self.norm_queries(q), self.norm_keys(k)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
        return read.flatten(1)


def text_ends(
    ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"], end_id: int | None
) -> Int[Tensor, " batch"]:
    """Places of the first end of text; where there is none, of the last before the padding."""
    ends = ids == end_id
    last = real.long().sum(dim=1) - 1
    return torch.where(ends.any(dim=1), ends.int().argmax(dim=1), last)
