"""MaMMUT of modern texts in open_clip's layout, where text tower and decoder are one: a
`multimodal_cfg` without a `text_cfg`.

https://github.com/mlfoundations/open_clip, src/open_clip/mammut_model.py and transformer.py of its
main branch
"""

import warnings
from collections.abc import Collection, Iterable
from typing import Any

from diptych.config import Activation
from diptych.errors import AssumptionWarning, ConfigError
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.modern.config import TwoPassReadersConfig, TwoPassTextConfig
from diptych.families.modern.weights import one_matrix
from diptych.families.modern.words import (
    POOLS,
    is_modern,
    named,
    reader_rules,
    take_sizes,
    text_rules,
    word,
    write_sizes,
)
from diptych.weights.mapping import TRANSPOSED, Change, Rule

_PICTURES, _MARK = "map_viz2txt_kv", "text.blocks.0.xattn.q.weight"
"""What tells a MaMMUT, and one of modern texts."""
_PASSED_OVER = (
    *("text_arch", "attention_mode", "freeze_pad_embed", "output_tokens"),
    *("dim_head", "n_queries", "attn_pooler_heads", "use_pad_mask"),
)
"""What has one meaning here, and what is for CoCa's decoder."""
_LACKED = {"reg_tokens": 0}
"""Options that these models can't have, and what they are."""

_TABLE, _HEAD = "text.token_embedding.weight", "text.lm_head.weight"
_BOTH = Rule(
    "text.tokens.weight",
    (_TABLE, _HEAD),
    Change(one_matrix, lambda ours: [ours, ours.clone()]),
)
"""Of a decoder that makes logits by the words' table: one matrix here, and two names there."""


def _take(cfg: dict[str, Any]) -> dict[str, Any]:
    """Everything that a `multimodal_cfg` says, taken out of it, in our words."""
    vision = cfg.pop("vision_cfg")
    for name in _PASSED_OVER:
        cfg.pop(name, None)
    for name, only in _LACKED.items():
        said = cfg.pop(name, only)
        if said != only:
            raise ConfigError(
                f"multimodal_cfg.{name} = {said!r} has no place in a MaMMUT of modern texts"
            )
    return {
        "sizes": take_sizes(cfg),
        "reading": named(cfg, "pool_type", "avg", POOLS),
        "pre_norm": bool(cfg.pop("pre_norm", False)),
        "projection": cfg.pop("proj_type", "none") != "none",
        "projection_bias": bool(cfg.pop("proj_bias", False)),
        "variable_text": bool(cfg.pop("variable_text", False)),
        "every": cfg.pop("cross_attn_ratio", 1),
        "tied": bool(cfg.pop("tie_lm_head", False)),
        "picture_width": vision["width"],
        "pictures": "raw" if vision.get("final_ln_after_pool") else "normed",
    }


def read_two_pass_text(
    cfg: dict[str, Any], activation: Activation = "gelu"
) -> TwoPassTextConfig | None:
    """The text tower of a `multimodal_cfg`, whose options are taken out; None: another kind. Warns
    of `use_pad_mask=False`, and raises ConfigError for options that it can't have."""
    if not is_modern(cfg):
        return None
    if not cfg.get("use_pad_mask", True):
        why = "multimodal_cfg.use_pad_mask has no effect on modern texts, which never see padding"
        warnings.warn(why, AssumptionWarning, stacklevel=2)
    said = _take(cfg)
    own = ("reading", "pre_norm", "projection", "projection_bias", "variable_text")
    return TwoPassTextConfig(**said["sizes"], **{name: said[name] for name in own})


def _read_readers(cfg: dict[str, Any], activation: Activation) -> TwoPassReadersConfig | None:
    if not is_modern(cfg):
        return None
    said = _take(cfg)
    ids = ("pad_id", "start_id", "end_id")
    sizes = {name: value for name, value in said["sizes"].items() if name not in ids}
    own = ("every", "tied", "picture_width", "pictures")
    return TwoPassReadersConfig(**sizes, **{name: said[name] for name in own})


def _write_text(text: TwoPassTextConfig) -> dict[str, Any]:
    marks = {
        "pre_norm": text.pre_norm,
        "proj_bias": text.projection_bias,
        "variable_text": text.variable_text,
    }
    said = write_sizes(text) | {name: True for name, value in marks.items() if value}
    said |= {"proj_type": "linear"} if text.projection else {}
    return said | ({} if text.reading == "mean" else {"pool_type": word(POOLS, text.reading)})


def _write_readers(decoder: TwoPassReadersConfig) -> dict[str, Any]:
    vision: dict[str, Any] = {"output_tokens": True}
    vision |= {"final_ln_after_pool": True} if decoder.pictures == "raw" else {}
    said = {"cross_attn_ratio": decoder.every, "vision_cfg": vision}
    return said | ({"tie_lm_head": True} if decoder.tied else {})


def _reader_rules(layers: Iterable[int]) -> tuple[Rule, ...]:
    """`layers`: those with a reader, whose number is that of the block there, and their own
    here."""
    found = [
        Rule("decoder.pictures.weight", _PICTURES, TRANSPOSED),
        Rule("decoder.projection.weight", _HEAD),
    ]
    for number, layer in enumerate(layers):
        found += reader_rules(f"decoder.readers.{number}.", f"text.blocks.{layer}.")
    return tuple(found)


def _layers_of(names: Collection[str]) -> list[int]:
    found: list[int] = []
    for name in names:
        before, _, number = name.removesuffix(".xattn.q.weight").rpartition(".")
        if before == "text.blocks" and number.isdecimal() and name.endswith(".xattn.q.weight"):
            found.append(int(number))
    return sorted(found)


TWO_PASS = (
    OpenClipTower(
        kind=TwoPassTextConfig,
        marks=(_MARK,),
        fits=lambda names: _MARK in names,
        rules=lambda names: text_rules("text.blocks.0.mlp.w12.weight" in names),
        export_rules=lambda config: text_rules(config.mlp == "swiglu"),
        read=read_two_pass_text,
        write=_write_text,
        custom_text=lambda config: True,
        one_section=True,
    ),
    OpenClipTower(
        kind=TwoPassReadersConfig,
        marks=(_MARK,),
        fits=lambda names: _MARK in names,
        rules=lambda names: _reader_rules(_layers_of(names)),
        export_rules=lambda config: (
            *((_BOTH,) if config.tied else ()),
            *_reader_rules(config.reader_layers),
        ),
        read=_read_readers,
        write=_write_readers,
        custom_text=lambda config: True,
        one_section=True,
    ),
)
