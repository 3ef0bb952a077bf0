"""UniRepLKNet in open_clip's layout: a trunk of timm's, once its authors' code has registered it
there.

Nobody published such a file yet; the layout is what that code gives.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych import zoo
from diptych.checkpoints.formats import unireplknet_trunk
from diptych.checkpoints.rename import Rule
from diptych.config import UniRepLKNetConfig
from diptych.errors import CheckpointError

PREFIX = "visual.trunk."
HEAD = f"{PREFIX}head.weight"
"""The classifier as the projection, with a bias: open_clip's way with a trunk that it can't take
apart."""


def is_trunk(names: Collection[str]) -> bool:
    """Whether the image tower of a model with these names is a UniRepLKNet."""
    return f"{PREFIX}{unireplknet_trunk.MARK}" in names


def rules(names: Collection[str]) -> tuple[Rule, ...]:
    """The image tower of a model with these names."""
    head = Rule("image.projection.weight", "visual.head.proj.weight")
    return (
        *unireplknet_trunk.rules(PREFIX),
        Rule("image.projection.*", f"{PREFIX}head.*") if HEAD in names else head,
    )


def export_rules(image: UniRepLKNetConfig) -> tuple[Rule, ...]:
    """The tower of this configuration."""
    return rules((HEAD,) if image.projection_bias else ())


def read_vision(cfg: dict[str, Any]) -> UniRepLKNetConfig | None:
    """The tower that open_clip's `vision_cfg` means, whose options are taken out of it; None:
    another kind of tower."""
    name = str(cfg.get("timm_model_name")).replace("_", "-")
    if name not in zoo.names("unireplknet-*"):
        return None
    tower = zoo.tower(name)
    assert isinstance(tower, UniRepLKNetConfig)
    del cfg["timm_model_name"]
    cfg.pop("timm_pool", None)  # the trunk pools
    return replace(
        tower,
        image_size=cfg.pop("image_size", tower.image_size),
        stochastic_depth=cfg.pop("timm_drop_path", None) or 0.0,
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
        "timm_drop_path": image.stochastic_depth or None,
    }


def architecture(image: UniRepLKNetConfig) -> str:
    """The published name of this tower. Raises CheckpointError if it has none."""
    for name in zoo.names("unireplknet-*"):
        known = zoo.tower(name)
        assert isinstance(known, UniRepLKNetConfig)
        if (known.depths, known.widths, known.kernels) == (
            image.depths,
            image.widths,
            image.kernels,
        ):
            return name.replace("-", "_")
    raise CheckpointError(
        "open_clip takes a UniRepLKNet by its published name, and this one has none; write it as native"
    )
