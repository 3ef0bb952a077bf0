"""`vision_cfg` of EVA-CLIP's published JSON <-> EvaConfig. The rest of that JSON is open_clip's
schema.

https://github.com/baaivision/EVA, EVA-CLIP/rei/eva_clip/model_configs
"""

from dataclasses import replace
from typing import Any

from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.towers import mlp_ratio
from diptych.families.eva.config import EvaConfig

_DROPPED = (
    "eva_model_name",
    "xattn",
    "fusedLN",
    "timm_model_name",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "patch_dropout",
    "drop_path_rate",
)
"""The tower's name, which kernels compute attention and norms, what another kind of tower would
ask, and what only training does."""
NORM_EPS = 1e-6
"""In the authors' code, not in their JSON."""


def read_vision(cfg: dict[str, Any]) -> EvaConfig:
    """Takes what an EVA tower has out of `cfg`, where `eva_model_name` stands; what the schema
    lacks has its default.

    Raises CheckpointError for rotary positions that the authors' code couldn't place on this grid.

    >>> from diptych.families.eva.layouts.config import read_vision
    >>> read_vision({"eva_model_name": "eva-clip-8b-14-x", "use_rms_norm": True}).norm
    'rms'
    """
    for name in _DROPPED:
        cfg.pop(name, None)
    width, image_size = cfg.pop("width", 768), cfg.pop("image_size", 224)
    patch_size, qkv_bias = cfg.pop("patch_size", 16), cfg.pop("qkv_bias", True)
    sub_norm, scale = cfg.pop("subln", False), cfg.pop("ls_init_value", None)
    return EvaConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        layers=cfg.pop("layers", 12),
        heads=width // cfg.pop("head_width", 64),
        mlp_width=int(width * cfg.pop("mlp_ratio", 4.0)),
        mlp="swiglu" if cfg.pop("naiveswiglu", False) else "gelu",
        norm="rms" if cfg.pop("use_rms_norm", False) else "layer",
        norm_eps=NORM_EPS,
        norm_place="post" if cfg.pop("postnorm", False) else "pre",
        attention_norm=sub_norm,
        mlp_norm=sub_norm,
        qkv_bias=qkv_bias,
        projection_bias=qkv_bias,
        rotary_grid=_rotary_grid(cfg, image_size // patch_size),
        layer_scale=scale if scale and scale > 0 else None,
        pool="mean" if cfg.pop("global_average_pool", False) else "cls",
    )


def _rotary_grid(cfg: dict[str, Any], grid: int) -> int | None:
    rotary, side = cfg.pop("rope", False), cfg.pop("pt_hw_seq_len", 16)
    interpolated = cfg.pop("intp_freq", False)
    if rotary and not interpolated and side != grid:
        raise CheckpointError(
            f"vision_cfg.rope is for a grid of {side} x {side} patches, "
            f"and there are {grid} x {grid}; intp_freq must be true"
        )
    return side if rotary else None


def write_vision(image: EvaConfig) -> dict[str, Any]:
    """`vision_cfg` of this tower. Raises CheckpointError for what the authors' code can't build,
    naming the field."""
    possible = replace(
        image, norm_eps=NORM_EPS, projection_bias=image.qkv_bias, mlp_norm=image.attention_norm
    )
    for name, (own, theirs) in difference(image, possible).items():
        raise CheckpointError(
            f"EVA-CLIP's code has {name} {theirs} beside the rest of this tower, not {own}"
        )
    if image.pool == "patches":
        raise CheckpointError(
            "EVA-CLIP's code can't pool the mean of the patches alone, without the class token"
        )
    cfg = {
        "image_size": image.image_size,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.width // image.heads,
        "mlp_ratio": mlp_ratio(image.width, image.mlp_width),
        "patch_size": image.patch_size,
        "eva_model_name": "eva",  # any name makes an EVA tower
        "ls_init_value": image.layer_scale,
        "global_average_pool": image.pool == "mean",
        "qkv_bias": image.qkv_bias,
        "postnorm": image.norm_place == "post",
        "use_rms_norm": image.norm == "rms",
        "naiveswiglu": image.mlp == "swiglu",
        "subln": image.attention_norm,
    }
    rotary = {"rope": True, "pt_hw_seq_len": image.rotary_grid, "intp_freq": True}
    return cfg | ({} if image.rotary_grid is None else rotary)
