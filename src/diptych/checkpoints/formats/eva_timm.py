"""EVA's image towers in open_clip: timm's, of which the trunk holds everything, its classifier as
the projection.

https://github.com/huggingface/pytorch-image-models, timm/models/eva.py
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych import zoo
from diptych.config import EvaConfig
from diptych.errors import CheckpointError

TOWERS = {
    "eva_giant_patch14_clip_224": "eva01-clip-g-14-plus",
    "eva_giant_patch14_224": "eva01-clip-g-14-plus",
    "eva02_base_patch16_clip_224": "eva02-clip-b-16",
    "eva02_large_patch14_clip_224": "eva02-clip-l-14",
    "eva02_large_patch14_clip_336": "eva02-clip-l-14-336",
    "eva02_enormous_patch14_clip_224": "eva02-clip-e-14",
}
"""timm's architectures, and for each a model of the zoo that has it."""
PREFIX = "visual.trunk."
MARKS = tuple(f"{PREFIX}blocks.0.attn.{name}" for name in ("q_bias", "q_proj.bias"))
"""Names of which one tells such a trunk."""


def is_trunk(names: Collection[str]) -> bool:
    """Whether the image tower is an EVA tower of timm, and its projection a part of the trunk."""
    return f"{PREFIX}head.weight" in names and any(mark in names for mark in MARKS)


def read_vision(cfg: dict[str, Any]) -> EvaConfig | None:
    """The tower that open_clip's `vision_cfg` means, whose options are taken out of it; None:
    another kind of tower."""
    if (
        cfg.get("timm_model_name") not in TOWERS
        or cfg.get("timm_pool") != "token"
        or cfg.get("timm_proj", "linear")
    ):
        return None
    tower = zoo.tower(TOWERS[cfg.pop("timm_model_name")])
    assert isinstance(tower, EvaConfig)
    del cfg["timm_pool"]
    return replace(
        tower,
        image_size=cfg.pop("image_size", tower.image_size),
        patch_dropout=cfg.pop("patch_dropout", 0.0),
        stochastic_depth=cfg.pop("timm_drop_path", None) or 0.0,
    )


def write_vision(image: EvaConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg` for this tower. Raises CheckpointError for one that timm doesn't
    have."""
    return {
        "image_size": image.image_size,
        "timm_model_name": architecture(image),
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
        "timm_drop_path": image.stochastic_depth or None,
        "patch_dropout": image.patch_dropout,
    }


def architecture(image: EvaConfig) -> str:
    """timm's name of this tower. Raises CheckpointError if it has none."""
    plain = replace(image, patch_dropout=0.0, stochastic_depth=0.0)
    for name, model in TOWERS.items():
        if zoo.tower(model) == plain:
            return name
    raise CheckpointError(
        "open_clip has its EVA towers from timm, and timm has none of this configuration; write it as eva or "
        "transformers"
    )
