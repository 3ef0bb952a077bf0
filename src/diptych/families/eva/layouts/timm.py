"""EVA's image towers in open_clip: timm's, of which the trunk holds everything, its classifier as
the projection.

https://github.com/huggingface/pytorch-image-models, timm/models/eva.py
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.timm import PATCH, PREFIX, square_name
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.eva.config import EvaConfig
from diptych.families.eva.layouts import config, tower
from diptych.families.eva.pretrained import MODELS

TOWERS = {
    "eva_giant_patch14_clip_224": "eva01-clip-g-14-plus",
    "eva_giant_patch14_224": "eva01-clip-g-14-plus",
    "eva02_base_patch16_clip_224": "eva02-clip-b-16",
    "eva02_large_patch14_clip_224": "eva02-clip-l-14",
    "eva02_large_patch14_clip_336": "eva02-clip-l-14-336",
    "eva02_enormous_patch14_clip_224": "eva02-clip-e-14",
}
"""timm's architectures, and for each a published model that has it."""
MARKS = tuple(f"{PREFIX}blocks.0.attn.{name}" for name in ("q_bias", "q_proj.bias"))
"""Names of which one tells such a trunk."""


def is_trunk(names: Collection[str]) -> bool:
    """Whether the image tower is an EVA tower of timm, and its projection a part of the trunk."""
    whole = f"{PREFIX}head.weight" in names and PATCH in names
    return whole and any(mark in names for mark in MARKS)


def read(cfg: dict[str, Any], activation: Activation) -> EvaConfig | None:
    """The tower that a `vision_cfg` of open_clip's schema means, EVA-CLIP's own dialect of it
    included; see `OpenClipTower.read`. The activation is the text tower's alone."""
    if cfg.get("eva_model_name"):
        return config.read_vision(cfg)
    if (
        square_name(cfg) not in TOWERS
        or cfg.get("timm_pool") != "token"
        or cfg.get("timm_proj", "linear")
    ):
        return None
    published = published_tower(cfg.pop("timm_model_name"))
    del cfg["timm_pool"]
    return replace(published, image_size=cfg.pop("image_size", published.image_size))


def write_vision(image: EvaConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg` for this tower. Raises CheckpointError for one that timm doesn't
    have."""
    return {
        "image_size": image.image_size,
        "timm_model_name": architecture(image),
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    }


def architecture(image: EvaConfig) -> str:
    """timm's name of this tower. Raises CheckpointError if it has none."""
    for name in TOWERS:
        if published_tower(name) == image:
            return name
    raise CheckpointError(
        "open_clip has its EVA towers from timm, and timm has none of this configuration; write it "
        "as eva or transformers"
    )


def published_tower(architecture: str) -> EvaConfig:
    """The configuration that timm has under this name."""
    image = MODELS[TOWERS[architecture]].image
    assert isinstance(image, EvaConfig)
    return image


OPEN_CLIP = (
    OpenClipTower(
        kind=EvaConfig,
        marks=MARKS,
        fits=is_trunk,
        rules=lambda names: tower.rules(PREFIX, names),
        export_rules=lambda image: tower.export_rules(PREFIX, image, "timm"),
        read=read,
        write=write_vision,
        custom_text=lambda config: True,
    ),
)
