"""Layers of open_clip's "modern" texts by its names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py of its main branch
"""

import functools
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.parts.layers import Layer, LayerNorm
from diptych.compat.parts.spelling import Spelled
from diptych.config.modern import ModernSizes
from diptych.errors import ConfigError
from diptych.families.modern.words import READING
from diptych.nn.mlp import GatedMlp, Mlp
from diptych.nn.modern_attention import BlockOptions, ModernAttention, ModernCrossAttention
from diptych.nn.modern_pool import ModernPool, Reading
from diptych.nn.rotary import rotate, signed

_HEADS = {"norm_queries": "q_norm", "norm_keys": "k_norm", "out": "proj"}
_READINGS: dict[str, Reading] = {name: READING[name] for name in ("eos", "mean", "map")}


class RMSNorm(nn.RMSNorm):
    """In the precision of its weights, and back in that of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def norm_layer_for(sizes: ModernSizes) -> Layer:
    """What makes the norms of a configuration."""
    kind = RMSNorm if sizes.norm == "rms" else LayerNorm
    return functools.partial(kind, eps=sizes.norm_eps)


class SwiGLU(Spelled, GatedMlp):
    """w3(x * silu(gate)), both of w12: the gate behind, where Diptych's is before."""

    spelling: ClassVar = {"gate_up": "w12", "down": "w3"}

    def __init__(self, dim: int, hidden_dim: int, bias: bool = True):
        super().__init__(dim, hidden_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        x, gate = self.gate_up(x).chunk(2, dim=-1)
        return self.down(x * F.silu(gate))


class ReLUSquared(nn.Module):
    """max(x, 0)^2 (So et al. 2021, arXiv:2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of each number."""
        return F.relu(x).square()


class ModernTextMlp(Spelled, Mlp):
    """`c_fc`, GELU or max(x, 0)^2, `c_proj`."""

    spelling: ClassVar = {"up": "c_fc", "down": "c_proj"}


class RotaryEmbedding1D(nn.Module):
    """Cosines, and behind them sines, of each place: [length, dim]. Raises ConfigError, a
    ValueError, for an odd `dim`.

    >>> import torch
    >>> from diptych.compat.transformer import RotaryEmbedding1D
    >>> RotaryEmbedding1D(8)(5, torch.device("cpu"), torch.float32).shape
    torch.Size([5, 8])
    """

    def __init__(self, dim: int, temperature: float = 10000.0):
        super().__init__()
        if dim % 2:
            raise ConfigError(f"RoPE head dim must be even, got {dim}")
        self.dim, self.temperature = dim, temperature

    def forward(
        self, seq_len: int, device: torch.device, dtype: torch.dtype
    ) -> Float[Tensor, "length dim"]:
        """Of the places 0, 1, ..."""
        channels = torch.arange(0, self.dim, 2, device=device, dtype=torch.float32)
        places = torch.arange(seq_len, device=device, dtype=torch.float32)
        angles = torch.outer(places, 1 / self.temperature ** (channels / self.dim))
        return torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)


def block_options(dim: int, heads: int, norm_layer: Layer | None, **options: Any) -> BlockOptions:
    """Of open_clip's arguments; `options`: more of its fields. Raises ConfigError, a ValueError,
    for a width that the heads can't share."""
    if dim % heads:
        raise ConfigError(f"text width {dim} must be divisible by heads {heads}.")
    norm = norm_layer or functools.partial(RMSNorm, eps=1e-6)
    return BlockOptions(
        width=dim, heads=heads, norm=norm, mlp_width=options.pop("mlp_width", dim), **options
    )


class ModernTextAttention(Spelled, ModernAttention):
    """Self-attention: see `nn.modern_attention.ModernAttention`."""

    spelling: ClassVar = _HEADS | {"value_mix": "vr_lambda"}

    def __init__(
        self,
        dim: int,
        heads: int,
        qk_norm: bool = False,
        norm_layer: Layer | None = None,
        gated: bool = False,
        value_residual: bool = False,
        vr_first: bool = False,
        bias: bool = True,
        gate_bias: bool = True,
    ):
        options = block_options(
            dim,
            heads,
            norm_layer,
            qk_norm=qk_norm,
            gated=gated,
            value_residual=value_residual,
            attention_bias=bias,
            gate_bias=gate_bias,
        )
        super().__init__(options, first=vr_first)
        if self.value_mix is not None:
            nn.init.constant_(self.value_mix, 0.5)

    @classmethod
    def of(cls, options: BlockOptions, first: bool) -> "ModernTextAttention":
        """As a block has it."""
        made = cls.__new__(cls)
        ModernAttention.__init__(made, options, first)
        return made

    def turned(self, x: Tensor, rotary: Tensor) -> Tensor:
        """`rotary`: as `RotaryEmbedding1D` has it."""
        cosines, sines = rotary.chunk(2, dim=-1)
        both = (each.repeat_interleave(2, dim=-1) for each in (cosines, sines))
        return rotate(x, signed(*both))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        rope_embed: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        v_first: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens, and the first block's values where they are mixed."""
        return super().forward(x, rope_embed, attn_mask, is_causal, v_first)


class ModernTextCrossAttention(Spelled, ModernCrossAttention):
    """A text that reads a picture: see `nn.modern_attention.ModernCrossAttention`."""

    spelling: ClassVar = _HEADS

    def __init__(
        self,
        dim: int,
        heads: int,
        qk_norm: bool = False,
        norm_layer: Layer | None = None,
        gated: bool = False,
        bias: bool = True,
        gate_bias: bool = True,
    ):
        super().__init__(
            block_options(
                dim,
                heads,
                norm_layer,
                qk_norm=qk_norm,
                gated=gated,
                attention_bias=bias,
                gate_bias=gate_bias,
            )
        )

    @classmethod
    def of(cls, options: BlockOptions) -> "ModernTextCrossAttention":
        """As a block has it."""
        made = cls.__new__(cls)
        ModernCrossAttention.__init__(made, options)
        return made

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        context: Tensor | None = None,
        context_attn_mask: Tensor | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """The texts' tokens."""
        return super().forward(x, context, context_attn_mask, read)


class ModernTextPool(Spelled, ModernPool):
    """One vector of a text's tokens, by `pool_type` eos, mean or map: see
    `nn.modern_pool.ModernPool`. Raises ConfigError, a ValueError, for others."""

    spelling: ClassVar = {"norm_queries": "q_norm", "norm_keys": "k_norm"}

    def __init__(
        self,
        width: int,
        pool_type: str = "eos",
        heads: int = 8,
        norm_layer: Layer | None = None,
        bias: bool = True,
        qk_norm: bool = False,
    ):
        if pool_type not in _READINGS:
            raise ConfigError(f"unknown modern text pool_type={pool_type!r}: eos, mean or map")
        options = block_options(width, heads, norm_layer, qk_norm=qk_norm, attention_bias=bias)
        super().__init__(options, _READINGS[pool_type])
        self.pool_type = pool_type
        self.init()

    @classmethod
    def of(cls, options: BlockOptions, reading: Reading) -> "ModernTextPool":
        """As a tower has it."""
        made = cls.__new__(cls)
        ModernPool.__init__(made, options, reading)
        made.pool_type = next(name for name, meant in _READINGS.items() if meant == reading)
        return made

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, text: Tensor, valid: Tensor, eos_id: int | None = None
    ) -> Tensor:
        """[batch, width] of tokens behind the final norm; `valid`: which are no padding."""
        return super().forward(x, text, valid, eos_id)
