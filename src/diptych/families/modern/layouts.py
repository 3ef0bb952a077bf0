"""The "modern" text tower and decoder in open_clip's layout.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py and model.py of its main
branch
"""

from collections.abc import Collection
from typing import Any

from diptych.config import Activation
from diptych.families.clip.layouts.open_clip_options import take_untied
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.modern.config import ModernDecoderConfig, ModernTextConfig
from diptych.families.modern.two_pass_layout import TWO_PASS
from diptych.families.modern.words import (
    MODE,
    READING,
    block_rules,
    is_modern,
    named,
    reader_rules,
    take_sizes,
    text_rules,
    word,
    write_sizes,
)
from diptych.weights.mapping import Rule, rows

_UNREAD = (
    *("dim_head", "n_queries", "attn_pooler_heads"),
    *("pool_type", "proj_type", "use_pad_mask", "variable_text"),
)
"""Of a `multimodal_cfg`: what CoCa's decoder has no use for."""


def _decoder_rules(gated: bool) -> tuple[Rule, ...]:
    ends = (("norm_post.*", "ln_final.*"), ("projection.weight", "lm_head.weight"))
    return (
        *rows("decoder.", "text_decoder.", *ends),
        *block_rules("decoder.blocks.#.", "text_decoder.blocks.#.", gated),
        *reader_rules("decoder.blocks.#.", "text_decoder.blocks.#."),
    )


def read_text(cfg: dict[str, Any], activation: Activation = "gelu") -> ModernTextConfig | None:
    """The text tower of a `text_cfg`, whose options are taken out; None: another kind. Raises
    UnknownNameError for a word that no option has, and ConfigError for what doesn't fit together.

    >>> from diptych.families.modern.layouts import read_text
    >>> said = {"text_arch": "modern", "pool_type": "mean", "layers": 2}
    >>> read_text(said).reading, said
    ('mean', {})
    """
    if not is_modern(cfg):
        return None
    del cfg["text_arch"]
    still = cfg.pop("freeze_pad_embed", None)
    return ModernTextConfig(
        **take_sizes(cfg),
        causal=named(cfg, "attention_mode", "causal", MODE),
        reading=named(cfg, "pool_type", "argmax", READING),
        still_padding=still is None or bool(still),
        registers=cfg.pop("reg_tokens", None) or 0,
        pre_norm=bool(cfg.pop("pre_norm", False)),
        projection=cfg.pop("proj_type", "linear") != "none",
        projection_bias=bool(cfg.pop("proj_bias", False)),
        variable_text=bool(cfg.pop("variable_text", False)),
    )


def _write_text(text: ModernTextConfig) -> dict[str, Any]:
    marks = {
        "pre_norm": text.pre_norm,
        "proj_bias": text.projection_bias,
        "variable_text": text.variable_text,
    }
    said = write_sizes(text) | {
        "pool_type": word(READING, text.reading),
        "attention_mode": word(MODE, text.causal),
    }
    said |= {} if text.projection else {"proj_type": "none"}
    said |= {} if text.still_padding else {"freeze_pad_embed": False}
    said |= {"reg_tokens": text.registers} if text.registers else {}
    return said | {name: True for name, value in marks.items() if value}


def read_decoder(
    cfg: dict[str, Any], activation: Activation = "gelu"
) -> ModernDecoderConfig | None:
    """The decoder of CoCa's `multimodal_cfg`: as `read_text`."""
    if not is_modern(cfg):
        return None
    for name in ("text_arch", *_UNREAD):
        cfg.pop(name, None)
    take_untied(cfg)
    return ModernDecoderConfig(**take_sizes(cfg), step=cfg.pop("cross_attn_ratio", 1))


def _write_decoder(decoder: ModernDecoderConfig) -> dict[str, Any]:
    step = {} if decoder.step == 1 else {"cross_attn_ratio": decoder.step}
    return write_sizes(decoder) | step


_TEXT_MARK, _DECODER_MARK = "text.blocks.0.attn.qkv.weight", "text_decoder.blocks.0.attn.qkv.weight"


def _gated(side: str, names: Collection[str]) -> bool:
    return f"{side}.blocks.0.mlp.w12.weight" in names


TOWERS = (
    OpenClipTower(
        kind=ModernTextConfig,
        marks=(_TEXT_MARK,),
        fits=lambda names: _TEXT_MARK in names,
        rules=lambda names: text_rules(_gated("text", names)),
        export_rules=lambda config: text_rules(config.mlp == "swiglu"),
        read=read_text,
        write=_write_text,
        custom_text=lambda config: True,
    ),
    OpenClipTower(
        kind=ModernDecoderConfig,
        marks=(_DECODER_MARK,),
        fits=lambda names: _DECODER_MARK in names,
        rules=lambda names: _decoder_rules(_gated("text_decoder", names)),
        export_rules=lambda config: _decoder_rules(config.mlp == "swiglu"),
        read=read_decoder,
        write=_write_decoder,
        custom_text=lambda config: True,
    ),
    *TWO_PASS,
)
