"""The "modern" text tower and decoder in open_clip's layout.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py and model.py of its main
branch
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.config import Activation
from diptych.errors import UnknownNameError
from diptych.families.clip.layouts.towers import OpenClipTower, mlp_ratio
from diptych.families.modern.config import ModernDecoderConfig, ModernTextConfig
from diptych.weights.mapping import Change, Rule, rows


def _halves_swapped(x: Tensor) -> Tensor:
    """The two halves of the first dimension change places. On `meta` nothing is to be moved."""
    return x if x.is_meta else torch.cat(x.chunk(2)[::-1])


_SWAPPED = Change(lambda parts: _halves_swapped(parts[0]), lambda ours: [_halves_swapped(ours)])
"""SwiGLU's gate is behind what it gates there, and before it here."""

_ATTENTION = (
    ("norm_queries.*", "q_norm.*"),
    ("norm_keys.*", "k_norm.*"),
    ("gate.*", "gate.*"),
    ("out.*", "proj.*"),
)
_BLOCK = (
    ("norm_1.*", "norm1.*"),
    ("attention.qkv.*", "attn.qkv.*"),
    ("attention.value_mix", "attn.vr_lambda"),
    *((f"attention.{ours}", f"attn.{theirs}") for ours, theirs in _ATTENTION),
    ("norm_1_post.*", "norm1_post.*"),
    ("scale_1.gains", "ls1.gamma"),
    ("norm_2.*", "norm2.*"),
    ("mlp.gate_up.*", "mlp.w12.*", _SWAPPED),
    ("mlp.up.*", "mlp.c_fc.*"),
    ("norm_2_post.*", "norm2_post.*"),
    ("scale_2.gains", "ls2.gamma"),
)
_READER = (
    ("norm_reader.*", "norm_x.*"),
    ("reader.q.*", "xattn.q.*"),
    ("reader.kv.*", "xattn.kv.*"),
    *((f"reader.{ours}", f"xattn.{theirs}") for ours, theirs in _ATTENTION),
    ("norm_reader_post.*", "norm_x_post.*"),
    ("scale_reader.gains", "ls_x.gamma"),
)
GATED, PLAIN = ("mlp.down.*", "mlp.w3.*"), ("mlp.down.*", "mlp.c_proj.*")


def block_rules(ours: str, foreign: str, gated: bool) -> tuple[Rule, ...]:
    """Of one block, by what its names begin with; `gated`: whether its perceptron is."""
    return rows(ours, foreign, *_BLOCK, GATED if gated else PLAIN, *_READER)


def _text_rules(gated: bool) -> tuple[Rule, ...]:
    return (
        *rows(
            "text.",
            "text.",
            ("tokens.weight", "token_embedding.weight"),
            ("registers", "reg_tokens"),
            ("norm_pre.*", "norm_pre.*"),
            ("norm_post.*", "ln_final.*"),
            ("pool.query", "pool.query"),
            ("pool.q.*", "pool.q.*"),
            ("pool.kv.*", "pool.kv.*"),
            ("pool.norm_queries.*", "pool.q_norm.*"),
            ("pool.norm_keys.*", "pool.k_norm.*"),
            ("projection.*", "text_projection.*"),
        ),
        *block_rules("text.blocks.#.", "text.blocks.#.", gated),
    )


def _decoder_rules(gated: bool) -> tuple[Rule, ...]:
    ends = (("norm_post.*", "ln_final.*"), ("projection.weight", "lm_head.weight"))
    return (
        *rows("decoder.", "text_decoder.", *ends),
        *block_rules("decoder.blocks.#.", "text_decoder.blocks.#.", gated),
    )


MLP: dict[str, Literal["swiglu", "gelu", "relu2"]] = {
    "swiglu": "swiglu",
    "mlp": "gelu",
    "relu2": "relu2",
}
_NORM: dict[str, Literal["rms", "layer"]] = {"rmsnorm": "rms", "layernorm": "layer"}
_POSITIONS = {"rope": True, "none": False}
_MODE = {"causal": True, "bidirectional": False}
_PLACEMENT = {"pre": False, "sandwich": True}
READING: dict[str, Literal["end", "mean", "query"]] = {
    "eos": "end",
    "mean": "mean",
    "map": "query",
    "argmax": "end",
}
"""Of the words of open_clip's options, what ours mean."""
_UNREAD = (
    *("dim_head", "n_queries", "attn_pooler_heads"),
    *("pool_type", "proj_type", "use_pad_mask", "variable_text"),
)
"""Of a `multimodal_cfg`: what CoCa's decoder has no use for."""


def _named(cfg: dict[str, Any], name: str, default: str, known: Mapping[str, Any]) -> Any:
    """What an option means, taken out of `cfg`. Raises UnknownNameError for another word."""
    said = cfg.pop(name, None)
    said = default if said is None else said
    if said not in known:
        raise UnknownNameError(f"{name} of modern texts", str(said), known)
    return known[said]


def _word(known: Mapping[str, Any], value: Any) -> str:
    return next(word for word, meant in known.items() if meant == value)


def take_sizes(cfg: dict[str, Any]) -> dict[str, Any]:
    """What all transformers of this kind have, taken out of a `text_cfg` or `multimodal_cfg`:
    fields of a `ModernSizes`, the context and special ids."""
    width, bias = cfg.pop("width", 512), bool(cfg.pop("attention_bias", None))
    gate = cfg.pop("gate_bias", None)
    return {
        "context_length": cfg.pop("context_length", 77),
        "vocab_size": cfg.pop("vocab_size", 49408),
        "width": width,
        "layers": cfg.pop("layers", 12),
        "heads": cfg.pop("heads", 8),
        "mlp_width": int(width * cfg.pop("mlp_ratio", 4.0)),
        "mlp": _named(cfg, "mlp_type", "swiglu", MLP),
        "norm": _named(cfg, "norm_type", "rmsnorm", _NORM),
        "norm_eps": cfg.pop("norm_eps", 1e-6),
        "rotary": _named(cfg, "pos_embed", "rope", _POSITIONS | {"": False}),
        "theta": cfg.pop("rope_temperature", 10000.0),
        "qk_norm": bool(cfg.pop("qk_norm", False)),
        "gated": bool(cfg.pop("attn_gated", False)),
        "sandwich": _named(cfg, "norm_placement", "pre", _PLACEMENT),
        "layer_scale": cfg.pop("ls_init_value", None),
        "value_residual": bool(cfg.pop("value_residual", False)),
        "attention_bias": bias,
        "gate_bias": bias if gate is None else bool(gate),
        "mlp_bias": bool(cfg.pop("mlp_bias", None)),
        "zero_residual": bool(cfg.pop("zero_init_residual", False)),
        "pad_id": cfg.pop("pad_id", 0),
        "start_id": cfg.pop("bos_id", None),
        "end_id": cfg.pop("eos_id", None),
    }


def write_sizes(sizes: ModernTextConfig | ModernDecoderConfig) -> dict[str, Any]:
    """The same as open_clip says it: what has a default there where it isn't that."""
    bias = sizes.attention_bias
    gate = {} if sizes.gate_bias == bias else {"gate_bias": sizes.gate_bias}
    scale = {} if sizes.layer_scale is None else {"ls_init_value": sizes.layer_scale}
    ids = {"bos_id": sizes.start_id, "eos_id": sizes.end_id}
    marks = {
        "value_residual": sizes.value_residual,
        "attention_bias": bias,
        "mlp_bias": sizes.mlp_bias,
        "zero_init_residual": sizes.zero_residual,
    }
    said = {
        "text_arch": "modern",
        "context_length": sizes.context_length,
        "vocab_size": sizes.vocab_size,
        "width": sizes.width,
        "heads": sizes.heads,
        "layers": sizes.layers,
        "mlp_ratio": mlp_ratio(sizes.width, sizes.mlp_width),
        "pad_id": sizes.pad_id,
        "pos_embed": _word(_POSITIONS, sizes.rotary),
        "mlp_type": _word(MLP, sizes.mlp),
        "norm_type": _word(_NORM, sizes.norm),
        "norm_eps": sizes.norm_eps,
        "qk_norm": sizes.qk_norm,
        "attn_gated": sizes.gated,
    }
    said |= {name: value for name, value in ids.items() if value is not None}
    said |= {"norm_placement": "sandwich"} if sizes.sandwich else {}
    said |= {"rope_temperature": sizes.theta} if sizes.theta != 10000 else {}
    return said | gate | scale | {name: True for name, value in marks.items() if value}


def is_modern(cfg: Mapping[str, Any]) -> bool:
    """Whether a `text_cfg` or `multimodal_cfg` asks for such a transformer."""
    return cfg.get("text_arch") == "modern"


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
        causal=_named(cfg, "attention_mode", "causal", _MODE),
        reading=_named(cfg, "pool_type", "argmax", READING),
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
        "pool_type": _word(READING, text.reading),
        "attention_mode": _word(_MODE, text.causal),
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
        rules=lambda names: _text_rules(_gated("text", names)),
        export_rules=lambda config: _text_rules(config.mlp == "swiglu"),
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
)
