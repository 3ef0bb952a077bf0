"""Blocks of open_clip's "modern" texts by its names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py of its main branch
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from diptych.compat.parts.layers import Layer, LayerScale
from diptych.compat.parts.modern_layers import (
    ModernTextAttention,
    ModernTextCrossAttention,
    ModernTextMlp,
    SwiGLU,
    block_options,
)
from diptych.compat.parts.spelling import Spelled
from diptych.errors import ConfigError
from diptych.families.modern.words import MLP
from diptych.nn.modern_attention import BlockOptions
from diptych.nn.modern_block import ModernBlock


class ModernTextDecoderBlock(Spelled, ModernBlock):
    """A block that may read pictures (`cross_attn`): see `nn.modern_block.ModernBlock`. Raises
    ConfigError, a ValueError, for another `mlp_type` or `norm_placement`."""

    spelling: ClassVar = {
        "norm_1": "norm1",
        "attention": "attn",
        "norm_1_post": "norm1_post",
        "scale_1": "ls1",
        "norm_reader": "norm_x",
        "reader": "xattn",
        "norm_reader_post": "norm_x_post",
        "scale_reader": "ls_x",
        "norm_2": "norm2",
        "norm_2_post": "norm2_post",
        "scale_2": "ls2",
    }
    attention_kind = ModernTextAttention.of
    reader_kind = ModernTextCrossAttention.of
    gated_kind, plain_kind, scale_kind = SwiGLU, ModernTextMlp, LayerScale

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float,
        norm_layer: Layer,
        qk_norm: bool = False,
        attn_gated: bool = False,
        mlp_type: str = "swiglu",
        norm_placement: str = "pre",
        ls_init_value: float | None = None,
        value_residual: bool = False,
        vr_first: bool = False,
        attn_bias: bool = True,
        gate_bias: bool = True,
        mlp_bias: bool = True,
        cross_attn: bool = False,
    ):
        if mlp_type not in MLP:
            raise ConfigError(f"unknown modern text mlp_type={mlp_type!r}: {', '.join(MLP)}")
        if norm_placement not in ("pre", "sandwich"):
            raise ConfigError(f"unknown modern text norm_placement={norm_placement!r}")
        options = block_options(
            dim,
            heads,
            norm_layer,
            mlp_width=int(dim * mlp_ratio),
            mlp=MLP[mlp_type],
            qk_norm=qk_norm,
            gated=attn_gated,
            sandwich=norm_placement == "sandwich",
            layer_scale=ls_init_value,
            value_residual=value_residual,
            attention_bias=attn_bias,
            gate_bias=gate_bias,
            mlp_bias=mlp_bias,
        )
        super().__init__(options, vr_first, cross_attn)

    @classmethod
    def of(cls, options: BlockOptions, first: bool, reads: bool) -> "ModernTextDecoderBlock":
        """As a transformer has it."""
        made = cls.__new__(cls)
        ModernBlock.__init__(made, options, first, reads)
        return made

    def get_weight_dtype(self) -> torch.dtype:
        """Of the matrices."""
        return self.attention.qkv.weight.dtype

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        rope_embed: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        v_first: Tensor | None = None,
        context: Tensor | None = None,
        context_attn_mask: Tensor | None = None,
        read: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens, and the first block's values where they are mixed."""
        given = (rope_embed, attn_mask, is_causal, v_first, context, context_attn_mask, read)
        return super().forward(x, *given)


class ModernTextBlock(ModernTextDecoderBlock):
    """A block of texts alone."""

    def __init__(self, *given: Any, **options: Any):
        """As `ModernTextDecoderBlock`, without `cross_attn`."""
        super().__init__(*given, **options, cross_attn=False)
