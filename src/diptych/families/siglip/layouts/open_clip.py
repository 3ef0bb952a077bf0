"""SigLIP in open_clip: timm's image towers, and its own text tower with other options.

https://github.com/mlfoundations/open_clip, model_configs/ViT-B-16-SigLIP.json;
https://github.com/huggingface/pytorch-image-models, timm/models/vision_transformer.py
"""

from collections.abc import Collection
from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai, timm
from diptych.families.clip.layouts.towers import (
    OpenClipTower,
    take_text,
    write_text,
)
from diptych.families.siglip.config import SiglipImageConfig, SiglipTextConfig
from diptych.families.siglip.layouts.open_clip_naflex import NAFLEX
from diptych.families.siglip.pretrained import OF_TIMM, SIZES, activation_of
from diptych.weights.mapping import BATCHED, Rule, Table, rows

_PROJECTION = "text.text_projection.weight"
_PATCH_BIAS = f"{timm.PREFIX}patch_embed.proj.bias"
"""Other towers of timm with such a pool have none."""

_PICTURES = {
    "base_patch32": (256,),
    "base_patch16": (224, 256, 384, 512),
    "large_patch16": (256, 384, 512),
    "so400m_patch14": (224, 378, 384),
    "so400m_patch16": (256, 384, 512),
    "giantopt_patch16": (256, 384),
}
"""Pixels for which timm has an architecture."""

_IMAGE = (
    *rows(
        "image.",
        timm.PREFIX,
        ("positions", "pos_embed", BATCHED),
        ("patch.*", "patch_embed.proj.*"),
        ("norm_post.*", "norm.*"),
    ),
    *timm.POOL,
    *timm.BLOCKS,
)
_TABLE = Table(rules=_IMAGE)
_TEXT = (
    Rule("text.projection.*", "text.text_projection.*"),
    *(rule for rule in openai.text("text.") if not rule.ours.startswith("text.projection")),
)


def _read_image(cfg: dict[str, Any], activation: Activation) -> SiglipImageConfig | None:
    match = OF_TIMM.fullmatch(timm.square_name(cfg))
    pooled = cfg.get("timm_pool") == "map" and cfg.get("timm_proj") in ("none", None)
    if not match or not pooled or match[1] not in SIZES:
        return None
    del cfg["timm_model_name"], cfg["timm_pool"]
    cfg.pop("timm_proj", None)
    width, layers, heads, hidden = SIZES[match[1]]
    return SiglipImageConfig(
        image_size=cfg.pop("image_size", int(match[3])),
        patch_size=int(match[2]),
        width=width,
        layers=layers,
        heads=heads,
        mlp_width=hidden,
        activation=activation_of(match[0]),
    )


def _write_image(image: SiglipImageConfig) -> dict[str, Any]:
    return {
        "image_size": image.image_size,
        "timm_model_name": _architecture(image),
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    }


def _architecture(image: SiglipImageConfig) -> str:
    """timm's name of the tower; the picture's size is an option of open_clip's, so that of the
    nearest size stands in for one that timm hasn't."""
    shape = (image.width, image.layers, image.heads, image.mlp_width)
    for size, known in SIZES.items():
        kind = f"{size}_patch{image.patch_size}"
        pictures = sorted(_PICTURES.get(kind, ()), key=lambda side: abs(side - image.image_size))
        for name in (f"vit_{kind}_siglip_{side}" for side in pictures):
            if (
                shape == known
                and activation_of(name) == image.activation
                and image.norm_eps == 1e-6
            ):
                return name
    raise CheckpointError(
        "open_clip builds SigLIP's image towers by timm's names, and timm has none of width "
        f"{image.width}, {image.layers} layers, patches of {image.patch_size} pixels and "
        f"{image.activation}"
    )


def _read_text(cfg: dict[str, Any], activation: Activation) -> SiglipTextConfig | None:
    if not cfg.get("no_causal_mask") or cfg.get("pool_type") != "last":
        return None
    bias, kind = cfg.get("proj_bias", False), cfg.get("proj_type", "linear")
    if (kind, bias) not in (("linear", True), ("none", False)):
        return None
    for name in ("no_causal_mask", "pool_type", "proj_bias", "proj_type"):
        cfg.pop(name, None)
    return SiglipTextConfig(**take_text(cfg, activation), projection=kind == "linear")


def _write_text(text: SiglipTextConfig) -> dict[str, Any]:
    options = {"no_causal_mask": True, "pool_type": "last"}
    projection = {"proj_bias": True} if text.projection else {"proj_type": "none"}
    return write_text(text) | options | projection


def _has_image(names: Collection[str]) -> bool:
    """timm's other vision transformers with such a pool have tokens of their own."""
    image = [name for name in names if name.startswith(timm.PREFIX)]
    return {timm.LATENT, _PATCH_BIAS} <= {*image} and not _TABLE.unknown(image)


def _has_text(names: Collection[str]) -> bool:
    """CLIP's text projection is a bare parameter there, without `.weight`. A tower without a table
    of positions is another family's."""
    if "text.positional_embedding" not in names:
        return False
    projections = (_PROJECTION, "text.text_projection")
    return _PROJECTION in names or not any(name in names for name in projections)


TOWERS = (
    OpenClipTower(
        kind=SiglipImageConfig,
        marks=(timm.LATENT,),
        fits=_has_image,
        rules=lambda names: _IMAGE,
        export_rules=lambda config: _IMAGE,
        read=_read_image,
        write=_write_image,
        custom_text=lambda config: True,
    ),
    OpenClipTower(
        kind=SiglipTextConfig,
        marks=("text.token_embedding.weight",),
        fits=lambda names: "text.positional_embedding" in names and _has_text(names),
        rules=lambda names: _TEXT,
        export_rules=lambda config: _TEXT,
        read=_read_text,
        write=_write_text,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    ),
    NAFLEX,
)
