"""TIPSv2 in open_clip: timm's image towers, and its own text tower with other options, as an open
pull request of 2026 has them (mlfoundations/open_clip #1166).

https://github.com/mlfoundations/open_clip, model_configs/TIPSv2-B-14.json;
https://github.com/huggingface/pytorch-image-models, timm/models/vision_transformer.py
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai, timm
from diptych.families.clip.layouts.towers import (
    OpenClipTower,
    mlp_ratio,
    norm_json,
    take_norm_eps,
)
from diptych.families.tips.config import TipsImageConfig, TipsTextConfig
from diptych.families.tips.pretrained import SIZES, TOKENIZER, image_config
from diptych.weights.mapping import BATCHED, TOKEN, Rule, rows

_NAME = re.compile(r"vit_([a-z0-9]+)_patch14_reg1_tipsv2")
_REGISTERS, _GAIN = f"{timm.PREFIX}reg_token", f"{timm.PREFIX}blocks.0.ls1.gamma"
_WORDS = "text.token_embedding.weight"
_OPTIONS = {
    "no_causal_mask": True,
    "use_pad_mask": True,
    "pool_type": "mean",
    "pos_embed_type": "sinusoidal",
    "scale_sqrt_depth": True,
    "proj_type": "none",
    "act_layer": "relu",
}
"""Of a `text_cfg`, all of which tell such a tower."""

_IMAGE = (
    *rows(
        "image.",
        timm.PREFIX,
        ("class_token", "cls_token", TOKEN),
        ("registers", "reg_token", BATCHED),
        ("positions", "pos_embed", BATCHED),
        ("patch.*", "patch_embed.proj.*"),
        ("norm_post.*", "norm.*"),
    ),
    *rows(
        "image.blocks.#.",
        f"{timm.PREFIX}blocks.#.",
        ("scale_1", "ls1.gamma"),
        ("scale_2", "ls2.gamma"),
    ),
    *timm.BLOCKS,
)
_GATED = (Rule("image.blocks.#.mlp.gate_up.*", f"{timm.PREFIX}blocks.#.mlp.fc1.*"), *_IMAGE)
"""timm's gated perceptrons have the names of plain ones."""
_TEXT = (
    Rule("text.tokens.weight", _WORDS),
    Rule("text.norm_post.*", "text.ln_final.*"),
    *rows("text.blocks.#.", "text.transformer.resblocks.#.", *openai.BLOCK),
)


def _fits_image(names: Collection[str]) -> bool:
    """No other tower of timm with registers and gains is known whose vectors aren't projected."""
    pooled = any(name.startswith(("visual.head.", f"{timm.PREFIX}head.")) for name in names)
    return {_REGISTERS, _GAIN} <= set(names) and timm.LATENT not in names and not pooled


def _image_rules(names: Collection[str]) -> tuple[Rule, ...]:
    """By the depth: the giant alone is gated, and no name tells it."""
    layers = {name.split(".")[3] for name in names if name.startswith(f"{timm.PREFIX}blocks.")}
    return _GATED if len(layers) == SIZES["giant"].layers else _IMAGE


def _read_image(cfg: dict[str, Any], activation: Activation) -> TipsImageConfig | None:
    match = _NAME.fullmatch(cfg.get("timm_model_name") or "")
    pooled = cfg.get("timm_pool") == "token" and cfg.get("timm_proj") in ("none", None)
    if not match or not pooled or match[1] not in SIZES:
        return None
    for name in ("timm_model_name", "timm_pool", "timm_proj"):
        cfg.pop(name, None)
    image = image_config(match[1])
    return replace(image, image_size=cfg.pop("image_size", image.image_size))


def _write_image(image: TipsImageConfig) -> dict[str, Any]:
    for size in SIZES:
        if difference(image, image_config(size)).keys() <= {"image_size"} and size != "small":
            return {
                "image_size": image.image_size,
                "timm_model_name": f"vit_{size}_patch14_reg1_tipsv2",
                "timm_model_pretrained": False,
                "timm_pool": "token",
                "timm_proj": "none",
            }
    raise CheckpointError(
        "open_clip builds TIPS's image towers by timm's names, and timm has none of width "
        f"{image.width}, {image.layers} layers and patches of {image.patch_size} pixels; "
        "--to transformers keeps it"
    )


def _read_text(cfg: dict[str, Any], activation: Activation) -> TipsTextConfig | None:
    if any(cfg.get(name) != value for name, value in _OPTIONS.items()):
        return None
    for name in _OPTIONS:
        del cfg[name]
    default = TipsTextConfig()
    width = cfg.pop("width", 512)
    return TipsTextConfig(
        context_length=cfg.pop("context_length", 77),
        vocab_size=cfg.pop("vocab_size", 49408),
        width=width,
        layers=cfg.pop("layers", 12),
        heads=cfg.pop("heads", 8),
        mlp_width=int(width * cfg.pop("mlp_ratio", 4.0)),
        norm_eps=take_norm_eps(cfg),
        pad_id=cfg.pop("pad_id", default.pad_id),
    )


def _write_text(text: TipsTextConfig) -> dict[str, Any]:
    sizes = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": mlp_ratio(text.width, text.mlp_width),
        "pad_id": text.pad_id,
    }
    return sizes | _OPTIONS | norm_json(text.norm_eps)


TOWERS = (
    OpenClipTower(
        kind=TipsImageConfig,
        marks=(_REGISTERS,),
        fits=_fits_image,
        rules=_image_rules,
        export_rules=lambda image: _GATED if image.mlp == "swiglu" else _IMAGE,
        read=_read_image,
        write=_write_image,
        inferable=False,  # nothing would say the tokenizer
        custom_text=lambda config: True,
    ),
    OpenClipTower(
        kind=TipsTextConfig,
        marks=(_WORDS,),
        fits=lambda names: _WORDS in names and "text.positional_embedding" not in names,
        rules=lambda names: _TEXT,
        export_rules=lambda config: _TEXT,
        read=_read_text,
        write=_write_text,
        tokenizers={"tips": TOKENIZER},
        custom_text=lambda config: True,
    ),
)
