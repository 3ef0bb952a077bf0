"""PE-Core's image towers in open_clip: timm's, whose classifier is the projection.

https://github.com/huggingface/pytorch-image-models, timm/models/eva.py
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import timm
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.pe.config import PeImageConfig
from diptych.families.pe.pretrained import SIZES, image_config
from diptych.weights.mapping import BATCHED, TOKEN, rows

_NAME, _NORM = "vit_pe_core_", f"{timm.PREFIX}norm_pre.weight"


_TRUNK = (
    *rows(
        "image.",
        timm.PREFIX,
        ("class_token", "cls_token", TOKEN),
        ("positions", "pos_embed", BATCHED),
        ("patch.weight", "patch_embed.proj.weight"),
        ("norm_pre.*", "norm_pre.*"),
        ("norm_post.*", "norm.*"),
        ("projection.*", "head.*"),
    ),
    *timm.POOL,
    *timm.BLOCKS,
)


def _fits(names: Collection[str]) -> bool:
    """SigLIP's towers have such a pool, too, and no norm before the blocks."""
    return {timm.LATENT, timm.PATCH, _NORM} <= {*names}


def _read(cfg: dict[str, Any], activation: Activation) -> PeImageConfig | None:
    """The activation is the text tower's alone."""
    name = timm.square_name(cfg)
    size = name.removeprefix(_NAME)
    pooled = cfg.get("timm_pool") == "map" and not cfg.get("timm_proj", "linear")
    if size == name or size not in SIZES or not pooled:
        return None
    del cfg["timm_model_name"], cfg["timm_pool"], cfg["timm_proj"]
    image = image_config(size)
    return replace(image, image_size=cfg.pop("image_size", image.image_size))


def _write(image: PeImageConfig) -> dict[str, Any]:
    size = next((size for size in SIZES if _is(image, size)), None)
    if size is None:
        raise CheckpointError(
            "open_clip builds PE-Core's image towers by timm's names, and timm has none of width "
            f"{image.width}, {image.layers} layers, patches of {image.patch_size} pixels and a "
            f"rotary grid of {image.rotary_grid}; --to pe keeps it"
        )
    return {
        "image_size": image.image_size,
        "timm_model_name": f"{_NAME}{size}",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": None,
    }


def _is(image: PeImageConfig, size: str) -> bool:
    """The pictures' size is an option of open_clip's."""
    return difference(image, image_config(size)).keys() <= {"image_size"}


TOWERS = (
    OpenClipTower(
        kind=PeImageConfig,
        marks=(timm.LATENT,),
        fits=_fits,
        rules=lambda names: _TRUNK,
        export_rules=lambda image: _TRUNK,
        read=_read,
        write=_write,
        custom_text=lambda config: True,
    ),
)
