"""UniRepLKNet in open_clip's layout: a trunk of timm's, once its authors' code has registered it
there.

Nobody published such a file yet; the layout is what that code gives.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.timm import PREFIX
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.unireplknet.config import UniRepLKNetConfig
from diptych.families.unireplknet.layouts import names as trunk_names
from diptych.families.unireplknet.pretrained import TOWERS
from diptych.weights.mapping import Rule

HEAD = f"{PREFIX}head.weight"
"""The classifier as the projection, with a bias: open_clip's way with a trunk that it can't take
apart."""


def is_trunk(names: Collection[str]) -> bool:
    """Whether the image tower of a model with these names is a UniRepLKNet."""
    return f"{PREFIX}{trunk_names.MARK}" in names


def rules(names: Collection[str]) -> tuple[Rule, ...]:
    """The image tower of a model with these names."""
    head = Rule("image.projection.weight", "visual.head.proj.weight")
    return (
        *trunk_names.rules(PREFIX),
        Rule("image.projection.*", f"{PREFIX}head.*") if HEAD in names else head,
    )


def export_rules(image: UniRepLKNetConfig) -> tuple[Rule, ...]:
    """The tower of this configuration."""
    return rules((HEAD,) if image.projection_bias else ())


def read_vision(cfg: dict[str, Any], activation: Activation) -> UniRepLKNetConfig | None:
    """The tower that open_clip's `vision_cfg` means; see `OpenClipTower.read`. The activation is
    the text tower's alone."""
    name = str(cfg.get("timm_model_name")).replace("_", "-")
    if name not in TOWERS:
        return None
    published = TOWERS[name]
    del cfg["timm_model_name"]
    cfg.pop("timm_pool", None)  # the trunk pools
    return replace(
        published,
        image_size=cfg.pop("image_size", published.image_size),
        projection_bias=not cfg.pop("timm_proj", "linear"),
    )


def write_vision(image: UniRepLKNetConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg` for this tower. Raises CheckpointError for one that has no name
    there."""
    return {
        "image_size": image.image_size,
        "timm_model_name": architecture(image),
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": None if image.projection_bias else "linear",
    }


def architecture(image: UniRepLKNetConfig) -> str:
    """The published name of this tower. Raises CheckpointError if it has none."""
    for name, known in TOWERS.items():
        if (known.depths, known.widths, known.kernels) == (
            image.depths,
            image.widths,
            image.kernels,
        ):
            return name.replace("-", "_")
    raise CheckpointError(
        "open_clip takes a UniRepLKNet by its published name, and this one has none; write it as "
        "native"
    )


OPEN_CLIP = (
    OpenClipTower(
        kind=UniRepLKNetConfig,
        marks=(HEAD,),
        fits=is_trunk,
        rules=rules,
        export_rules=export_rules,
        read=read_vision,
        write=write_vision,
    ),
)
