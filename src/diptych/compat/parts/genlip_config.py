"""What open_clip's GenLIP is made of, in its words."""

from dataclasses import dataclass
from typing import Any

from diptych.errors import ConfigError
from diptych.families.genlip.block import BlockSizes

_NORMS = {"layernorm": "layer", "rmsnorm": "rms"}
_LEAST = 1e-6
"""What is no more than this is none, in open_clip."""
_COLOURS = 3


@dataclass
class NaFlexGenLipVisionCfg:
    """A `vision_cfg`; the fields and defaults are open_clip's."""

    image_size: int = 256
    patch_size: int = 16
    in_chans: int = _COLOURS
    proj_bias: bool = True
    input_norm: bool = False
    pre_norm: bool = False
    pool_type: str = "avg"
    genlip_naflex: bool = True


@dataclass
class NaFlexGenLipTrunkCfg:
    """A `genlip_cfg`; the fields and defaults are open_clip's."""

    width: int = 1152
    depth: int = 27
    num_heads: int = 16
    intermediate_size: int = 3072
    text_embed_dim: int = 1024
    mrope_section: tuple[int, int, int] = (12, 12, 12)
    rope_theta: float = 10000.0
    ls_init_value: float | None = 0.1
    drop_path_rate: float = 0.0
    gated_attention: bool = True
    use_swiglu_ffn: bool = True
    mrope_interleaved: bool = True
    hidden_act: Any = "silu"
    layer_norm_eps: float = 1e-6
    max_position_embeddings: int = 16384
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_type: str = "layernorm"
    qk_norm: bool = False
    pack_prefix: bool = False


def sizes_of(cfg: NaFlexGenLipTrunkCfg) -> BlockSizes:
    """What its blocks are made of. Raises ConfigError for a kind of norm that there isn't."""
    if cfg.norm_type not in _NORMS:
        raise ConfigError(f"norm_type {cfg.norm_type!r}: layernorm or rmsnorm")
    scale = cfg.ls_init_value
    return BlockSizes(
        width=cfg.width,
        heads=cfg.num_heads,
        mlp_width=cfg.intermediate_size,
        activation=cfg.hidden_act,
        gated_mlp=cfg.use_swiglu_ffn,
        gated_attention=cfg.gated_attention,
        qk_norm=cfg.qk_norm,
        layer_scale=scale if scale is not None and scale > _LEAST else None,
        norm="rms" if _NORMS[cfg.norm_type] == "rms" else "layer",
        norm_eps=cfg.layer_norm_eps,
        attention_bias=cfg.attention_bias,
        mlp_bias=cfg.mlp_bias,
    )
