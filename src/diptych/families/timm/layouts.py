"""open_clip's names and options of a timm image tower with a linear projection behind it."""

from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.towers import OpenClipTower, take_norm_eps
from diptych.families.timm.config import TimmConfig
from diptych.weights.mapping import Rule

PREFIX = "visual.trunk."
_RULES = (
    Rule("image.trunk.*", f"{PREFIX}*"),
    Rule("image.projection.weight", "visual.head.proj.weight"),
)
_OF_OTHER_TOWERS = ("width", "layers", "head_width", "patch_size", "mlp_ratio", "no_ln_pre")


def read_vision(cfg: dict[str, Any], activation: Activation) -> TimmConfig | None:
    """The tower that open_clip's `vision_cfg` means; see `OpenClipTower.read`. The activation is
    the text tower's alone."""
    name = cfg.pop("timm_model_name", None)
    if not name:
        return None
    for option in _OF_OTHER_TOWERS:
        cfg.pop(option, None)
    take_norm_eps(cfg)
    pool = cfg.pop("timm_pool", "avg")
    options = {"global_pool": pool} if pool else {}
    return TimmConfig(name=name, image_size=cfg.pop("image_size", 224), options=options)


def write_vision(image: TimmConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg`. Raises CheckpointError for options that it doesn't pass on."""
    options = dict(image.options)
    pool = options.pop("global_pool", "")
    if options:
        raise CheckpointError(f"open_clip can't pass {', '.join(options)} on to timm")
    return {
        "timm_model_name": image.name,
        "timm_pool": pool,
        "timm_proj": "linear",
        "image_size": image.image_size,
    }


OPEN_CLIP = (
    OpenClipTower(
        kind=TimmConfig,
        marks=("visual.head.proj.weight",),
        fits=lambda names: any(name.startswith(PREFIX) for name in names),
        rules=lambda names: _RULES,
        export_rules=lambda config: _RULES,
        read=read_vision,
        write=write_vision,
    ),
)
