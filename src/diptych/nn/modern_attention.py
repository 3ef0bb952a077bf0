"""Attention of recent language models: queries and keys normed and turned, the output gated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.config.modern import ModernSizes
from diptych.nn.rotary import rotate

Norm = Callable[[int], nn.Module]
"""Makes a norm of so many channels."""


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """What a block is made of: see `ModernSizes`."""

    width: int
    heads: int
    mlp_width: int
    norm: Norm
    mlp: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    qk_norm: bool = False
    gated: bool = False
    sandwich: bool = False
    layer_scale: float | None = None
    value_residual: bool = False
    attention_bias: bool = False
    gate_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def of(cls, sizes: ModernSizes, norm: Norm | None = None) -> "BlockOptions":
        """Of a configuration; `norm` in place of its own.

        >>> from diptych.config.modern import ModernSizes
        >>> from diptych.nn.modern_attention import BlockOptions
        >>> BlockOptions.of(ModernSizes()).norm(8)
        RMSNorm((8,), eps=1e-06, elementwise_affine=True)
        """
        return cls(
            width=sizes.width,
            heads=sizes.heads,
            mlp_width=sizes.mlp_width,
            norm=norm or norm_of(sizes),
            mlp=sizes.mlp,
            qk_norm=sizes.qk_norm,
            gated=sizes.gated,
            sandwich=sizes.sandwich,
            layer_scale=sizes.layer_scale,
            value_residual=sizes.value_residual,
            attention_bias=sizes.attention_bias,
            gate_bias=sizes.gate_bias,
            mlp_bias=sizes.mlp_bias,
        )


def norm_of(sizes: ModernSizes) -> Norm:
    """What makes the norms of a configuration."""
    kind = nn.RMSNorm if sizes.norm == "rms" else nn.LayerNorm
    return lambda channels: kind(channels, sizes.norm_eps)


def heads_apart(x: Tensor, count: int, heads: int) -> tuple[Tensor, ...]:
    """[batch, tokens, count x width] -> `count` of [batch, heads, tokens, channels], views."""
    return x.unflatten(-1, (count, heads, -1)).permute(2, 0, 3, 1, 4).unbind()


class _Heads(nn.Module):
    """What self- and cross-attention share: norms of queries and keys, and the gated output."""

    norm_queries: nn.Module
    norm_keys: nn.Module
    gate: nn.Linear | None
    out: nn.Linear

    def __init__(self, options: BlockOptions):
        super().__init__()
        self.heads = options.heads
        self.head_dim = options.width // options.heads

    def _add_norms(self, options: BlockOptions) -> None:
        self.norm_queries, self.norm_keys = nn.Identity(), nn.Identity()
        if options.qk_norm:
            self.norm_queries, self.norm_keys = (options.norm(self.head_dim) for _ in range(2))

    def _add_end(self, options: BlockOptions) -> None:
        width = options.width
        self.gate = nn.Linear(width, width, bias=options.gate_bias) if options.gated else None
        self.out = nn.Linear(width, width, bias=options.attention_bias)

    def _end(
        self, x: Float[Tensor, "batch length width"], read: Tensor
    ) -> Float[Tensor, "batch length width"]:
        """Heads side by side, gated by the tokens that ask."""
        read = read.transpose(1, 2).reshape(x.shape)
        return self.out(read if self.gate is None else read * self.gate(x).sigmoid())


class ModernAttention(_Heads):
    """Self-attention.

    >>> import torch
    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_attention import BlockOptions, ModernAttention
    >>> attention = ModernAttention(BlockOptions.of(ModernSizes(width=8, heads=2)))
    >>> attention(torch.zeros(1, 5, 8))[0].shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, options: BlockOptions, first: bool = True):
        """`first`: of the first block, whose values others mix with theirs."""
        super().__init__(options)
        self.qkv = nn.Linear(options.width, 3 * options.width, bias=options.attention_bias)
        self._add_norms(options)
        self.value_residual = options.value_residual
        mixes = options.value_residual and not first
        # Not of the first block: a parameter without a gradient stops DDP.
        self.value_mix: nn.Parameter | None = nn.Parameter(torch.empty(1)) if mixes else None
        self._add_end(options)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        rotary: Tensor | None = None,
        mask: Bool[Tensor, "batch 1 #length length"] | None = None,
        causal: bool = False,
        first: Float[Tensor, "batch heads length channels"] | None = None,
    ) -> tuple[Float[Tensor, "batch length width"], Tensor | None]:
        """Tokens, and the first block's values where they are mixed. `rotary`: a `rotary_line`;
        `mask`: which tokens (last) are seen, or `causal`; `first`: the first block's values."""
        q, k, v = heads_apart(self.qkv(x), 3, self.heads)
        values = None
        if self.value_residual:
            values = v if first is None else first
            if self.value_mix is not None:
                v = torch.lerp(values, v, self.value_mix.to(v.dtype))
        q, k = self.norm_queries(q), self.norm_keys(k)
        if rotary is not None:
            q, k = self.turned(q, rotary), self.turned(k, rotary)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self._end(x, read), values

    def turned(self, x: Tensor, rotary: Tensor) -> Tensor:
        """Queries or keys, turned by their places."""
        return rotate(x, rotary)


class ModernCrossAttention(_Heads):
    """Tokens of a text that read a picture's. Neither has places here.

    >>> import torch
    >>> from diptych.config.modern import ModernSizes
    >>> from diptych.nn.modern_attention import BlockOptions, ModernCrossAttention
    >>> reader = ModernCrossAttention(BlockOptions.of(ModernSizes(width=8, heads=2)))
    >>> reader(torch.zeros(2, 5, 8), torch.zeros(2, 3, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, options: BlockOptions):
        super().__init__(options)
        width, bias = options.width, options.attention_bias
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * width, bias=bias)
        self._add_norms(options)
        self._add_end(options)

    def keys_values(
        self, pictures: Float[Tensor, "pictures tokens width"]
    ) -> Float[Tensor, "pictures tokens two_widths"]:
        """What texts attend to, which is the same for all words that are written."""
        keys, values = self.kv(pictures).chunk(2, dim=-1)
        normed = self.norm_keys(keys.unflatten(-1, (self.heads, -1))).flatten(-2)
        return torch.cat([normed, values], dim=-1)

    def forward(
        self,
        x: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "pictures tokens width"] | None = None,
        seen: Bool[Tensor, "pictures 1 1 tokens"] | None = None,
        read: Float[Tensor, "pictures tokens two_widths"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """Of texts, given the pictures' tokens or the `keys_values` that were `read` of them.
        `seen`: which of the tokens aren't padding (None: all). Of several texts to each picture,
        those of one stand together."""
        if read is None:
            assert pictures is not None
            read = self.keys_values(pictures)
        # No token's sight depends on its place, so a picture's texts are read as one.
        beside = self.q(x).reshape(read.shape[0], -1, x.shape[-1])
        (q,) = heads_apart(beside, 1, self.heads)
        k, v = heads_apart(read, 2, self.heads)
        found = F.scaled_dot_product_attention(self.norm_queries(q), k, v, attn_mask=seen)
        return self._end(x, found)


def init_attention(
    attention: ModernAttention | ModernCrossAttention, std: float, end: Callable[[Tensor], Any]
) -> None:
    """Matrices N(0, std^2) but the last, which is filled by `end`; gates' biases 1, others 0."""
    own = isinstance(attention, ModernAttention)
    for linear in (attention.qkv,) if own else (attention.q, attention.kv):
        init_linear(linear, std)
    end(attention.out.weight)
    fill_bias(attention.out, 0.0)
    if attention.gate is not None:
        init_linear(attention.gate, std)
        fill_bias(attention.gate, 1.0)  # sigmoid(1) = 0.73
    if own and attention.value_mix is not None:
        nn.init.constant_(attention.value_mix, 0.5)


def init_linear(linear: nn.Linear, std: float) -> None:
    """Its matrix N(0, std^2), its bias 0."""
    nn.init.normal_(linear.weight, std=std)
    fill_bias(linear, 0.0)


def fill_bias(linear: nn.Linear, value: float) -> None:
    """Its bias, where it has one."""
    for name, parameter in linear.named_parameters():
        if name == "bias":
            nn.init.constant_(parameter, value)
