"""The names of an EVA image tower's weights: its authors', and timm's, which differ in a few.

https://github.com/baaivision/EVA; https://github.com/huggingface/pytorch-image-models,
timm/models/eva.py
"""

from collections.abc import Collection
from typing import Literal

from diptych.families.eva import EvaConfig
from diptych.weights.mapping import BATCHED, FUSED, PAIRED, TOKEN, Row, Rule, rows

_SPLIT = (
    "attention.qkv.weight",
    ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"),
    FUSED,
)
_SUB_NORMS = (("attention.norm.*", "attn.inner_attn_ln.*"), ("mlp.norm.*", "mlp.ffn_ln.*"))
_BIASES = (("attention.q_bias", "attn.q_bias"), ("attention.v_bias", "attn.v_bias"))

_ATTENTION: dict[str, tuple[Row, ...]] = {
    "attn.qkv.weight": (("attention.qkv.weight", "attn.qkv.weight"), *_BIASES, _SUB_NORMS[0]),
    "attn.q_proj.bias": (  # timm
        _SPLIT,
        ("attention.q_bias", "attn.q_proj.bias"),
        ("attention.v_bias", "attn.v_proj.bias"),
        ("attention.norm.*", "attn.norm.*"),
    ),
    "attn.q_proj.weight": (_SPLIT, *_BIASES, _SUB_NORMS[0]),
}
_MLP: dict[str, tuple[Row, ...]] = {
    "mlp.fc1.weight": (("mlp.up.*", "mlp.fc1.*"), ("mlp.down.*", "mlp.fc2.*"), _SUB_NORMS[1]),
    "mlp.w1.weight": (
        ("mlp.gate_up.*", ("mlp.w1.*", "mlp.w2.*"), PAIRED),
        ("mlp.down.*", "mlp.w3.*"),
        _SUB_NORMS[1],
    ),
    "mlp.w12.weight": (("mlp.gate_up.*", "mlp.w12.*"), ("mlp.down.*", "mlp.w3.*")),  # xformers
    "mlp.fc1_g.weight": (  # timm
        ("mlp.gate_up.*", ("mlp.fc1_g.*", "mlp.fc1_x.*"), PAIRED),
        ("mlp.down.*", "mlp.fc2.*"),
        ("mlp.norm.*", "mlp.norm.*"),
    ),
}
"""Each by a name of the first block that tells it."""

IGNORED = ("*.freqs_cos", "*.freqs_sin")
"""Rotary tables, of whatever shape: they are computed."""


def rules(prefix: str, names: Collection[str]) -> tuple[Rule, ...]:
    """The tower of a checkpoint with these names, of which the tower's begin with `prefix`."""
    first = f"{prefix}blocks.0."
    attention = next((mark for mark in _ATTENTION if first + mark in names), "attn.qkv.weight")
    mlp = next((mark for mark in _MLP if first + mark in names), "mlp.fc1.weight")
    norm = "norm" if f"{prefix}norm.weight" in names else "fc_norm"
    return _rules(prefix, _ATTENTION[attention], _MLP[mlp], norm)


def export_rules(
    prefix: str, image: EvaConfig, dialect: Literal["eva", "timm"]
) -> tuple[Rule, ...]:
    """The tower of this configuration as its authors' code names it, or timm."""
    split = "attn.q_proj.weight" if dialect == "eva" else "attn.q_proj.bias"
    gated = "mlp.w1.weight" if dialect == "eva" else "mlp.fc1_g.weight"
    return _rules(
        prefix,
        _ATTENTION[split if image.attention_norm or image.mlp_norm else "attn.qkv.weight"],
        _MLP[gated if image.mlp == "swiglu" else "mlp.fc1.weight"],
        "norm" if image.pool == "cls" else "fc_norm",
    )


def _rules(
    prefix: str, attention: tuple[Row, ...], mlp: tuple[Row, ...], norm: str
) -> tuple[Rule, ...]:
    return (
        *rows(
            "image.",
            prefix,
            ("class_token", "cls_token", TOKEN),
            ("positions", "pos_embed", BATCHED),
            ("patch.*", "patch_embed.proj.*"),
            ("norm_post.*", f"{norm}.*"),
            ("projection.*", "head.*"),
        ),
        *rows(
            "image.blocks.#.",
            f"{prefix}blocks.#.",
            ("norm_1.*", "norm1.*"),
            *attention,
            ("attention.out.*", "attn.proj.*"),
            ("scale_1", "gamma_1"),
            ("norm_2.*", "norm2.*"),
            *mlp,
            ("scale_2", "gamma_2"),
        ),
    )
