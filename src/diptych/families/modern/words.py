"""What transformers of recent language models' blocks have in common in open_clip's layout: names
of weights, and words of options.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py and model.py of its main
branch
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.errors import UnknownNameError
from diptych.families.clip.layouts.towers import mlp_ratio
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
_GATED, _PLAIN = ("mlp.down.*", "mlp.w3.*"), ("mlp.down.*", "mlp.c_proj.*")


def block_rules(ours: str, foreign: str, gated: bool) -> tuple[Rule, ...]:
    """Of one block, by what its names begin with; `gated`: whether its perceptron is."""
    return rows(ours, foreign, *_BLOCK, _GATED if gated else _PLAIN)


def reader_rules(ours: str, foreign: str) -> tuple[Rule, ...]:
    """Of what reads pictures in a block."""
    return rows(ours, foreign, *_READER)


def text_rules(gated: bool) -> tuple[Rule, ...]:
    """Of a text tower; `gated`: whether its perceptrons are."""
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


MLP: dict[str, Literal["swiglu", "gelu", "relu2"]] = {
    "swiglu": "swiglu",
    "mlp": "gelu",
    "relu2": "relu2",
}
_NORM: dict[str, Literal["rms", "layer"]] = {"rmsnorm": "rms", "layernorm": "layer"}
_POSITIONS = {"rope": True, "none": False}
MODE = {"causal": True, "bidirectional": False}
_PLACEMENT = {"pre": False, "sandwich": True}
READING: dict[str, Literal["end", "mean", "query"]] = {
    "eos": "end",
    "mean": "mean",
    "map": "query",
    "argmax": "end",
}
POOLS = READING | {"avg": "mean"}
"""Of the words of open_clip's options, what ours mean. `POOLS`: of MaMMUT's `pool_type`."""


def named(cfg: dict[str, Any], name: str, default: str, known: Mapping[str, Any]) -> Any:
    """What an option means, taken out of `cfg`. Raises UnknownNameError for another word."""
    said = cfg.pop(name, None)
    said = default if said is None else said
    if said not in known:
        raise UnknownNameError(f"{name} of modern texts", str(said), known)
    return known[said]


def word(known: Mapping[str, Any], value: Any) -> str:
    """The first of the `known` words that means `value`.

    >>> from diptych.families.modern.words import MLP, word
    >>> word(MLP, "gelu")
    'mlp'
    """
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
        "mlp": named(cfg, "mlp_type", "swiglu", MLP),
        "norm": named(cfg, "norm_type", "rmsnorm", _NORM),
        "norm_eps": cfg.pop("norm_eps", 1e-6),
        "rotary": named(cfg, "pos_embed", "rope", _POSITIONS | {"": False}),
        "theta": cfg.pop("rope_temperature", 10000.0),
        "qk_norm": bool(cfg.pop("qk_norm", False)),
        "gated": bool(cfg.pop("attn_gated", False)),
        "sandwich": named(cfg, "norm_placement", "pre", _PLACEMENT),
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
        "pos_embed": word(_POSITIONS, sizes.rotary),
        "mlp_type": word(MLP, sizes.mlp),
        "norm_type": word(_NORM, sizes.norm),
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
