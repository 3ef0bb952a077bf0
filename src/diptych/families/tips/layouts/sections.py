"""The sections of a config.json of `Tipsv2Model`.

https://huggingface.co/docs/transformers/model_doc/tipsv2
"""

from typing import Any

from diptych.errors import CheckpointError
from diptych.families.clip.layouts.towers import mlp_ratio
from diptych.families.clip.layouts.transformers_sections import read_id, read_sizes
from diptych.families.tips.config import TipsImageConfig, TipsTextConfig
from diptych.families.tips.pretrained import TEMPERATURE

_EIGHT = 8
"""Gated perceptrons are of a multiple of it."""


def read_temperature(content: dict[str, Any]) -> float:
    """What cosines are divided by. Raises CheckpointError unless it is above 0."""
    value = content.get("temperature_init_value", content.get("temperature", TEMPERATURE))
    if not isinstance(value, int | float) or not value > 0:
        raise CheckpointError(f"temperature_init_value {value!r} must be a number above 0")
    return float(value)


def image_config(cfg: dict[str, Any]) -> TipsImageConfig:
    """From `vision_config`. Raises CheckpointError for a tower of other parts."""
    _only(cfg, "vision_config", hidden_act="gelu", num_channels=3, qkv_bias=True)
    default = TipsImageConfig()
    width, gated = cfg.get("hidden_size", default.width), bool(cfg.get("use_swiglu_ffn"))
    hidden = int(width * cfg.get("mlp_ratio", 4))
    return TipsImageConfig(
        image_size=_side(cfg, "image_size", default.image_size),
        patch_size=_side(cfg, "patch_size", default.patch_size),
        registers=cfg.get("num_register_tokens", default.registers),
        mlp="swiglu" if gated else "gelu",
        **read_sizes(cfg, default) | {"mlp_width": _gated(hidden) if gated else hidden},
    )


def _side(cfg: dict[str, Any], name: str, default: int) -> int:
    """Of a square, said once or for height and width. Raises CheckpointError for anything else."""
    said = cfg.get(name, default)
    sides: list[Any] = said if isinstance(said, list) else [said]
    if len(sides) not in (1, 2) or any(type(side) is not int or side < 1 for side in sides):
        raise CheckpointError(
            f"vision_config.{name} {said!r} must be a whole number of pixels, or two for height "
            "and width"
        )
    if sides[0] != sides[-1]:
        raise CheckpointError(f"{sides[0]} x {sides[1]} pixels are no square")
    return sides[0]


def _gated(hidden: int) -> int:
    """Two thirds of a plain perceptron's width, rounded up to eights: three matrices then have as
    many numbers as two (Shazeer 2020, arXiv:2002.05202, §2)."""
    return -(-int(hidden * 2 / 3) // _EIGHT) * _EIGHT


def text_config(cfg: dict[str, Any]) -> TipsTextConfig:
    """From `text_config`. Raises CheckpointError for a tower of other parts."""
    _only(cfg, "text_config", hidden_act="relu", scale_sqrt_depth=True)
    default = TipsTextConfig()
    vocab_size = cfg.get("vocab_size", default.vocab_size)
    return TipsTextConfig(
        context_length=cfg.get("max_position_embeddings", default.context_length),
        vocab_size=vocab_size,
        pad_id=read_id(cfg, "pad_token_id", default.pad_id, vocab_size),
        **read_sizes(cfg, default),
    )


def _only(cfg: dict[str, Any], section: str, **known: Any) -> None:
    for name, value in known.items():
        if cfg.get(name, value) != value:
            raise CheckpointError(
                f"{section}.{name} = {cfg[name]!r} has no place in a Diptych model"
            )


def image_json(image: TipsImageConfig) -> dict[str, Any]:
    """`vision_config` of this tower. Raises CheckpointError for gated perceptrons of a width that
    transformers has none of."""
    plain = image.mlp_width
    if image.mlp == "swiglu":
        plain = 3 * image.mlp_width // 2
        if _gated(plain) != image.mlp_width:
            raise CheckpointError(
                f"transformers' Tipsv2Model has gated perceptrons of a multiple of {_EIGHT} "
                f"channels, and not of mlp_width {image.mlp_width}"
            )
    return {
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "hidden_size": image.width,
        "num_hidden_layers": image.layers,
        "num_attention_heads": image.heads,
        "mlp_ratio": mlp_ratio(image.width, plain),
        "use_swiglu_ffn": image.mlp == "swiglu",
        "num_register_tokens": image.registers,
        "layer_norm_eps": image.norm_eps,
    }


def text_json(text: TipsTextConfig) -> dict[str, Any]:
    """`text_config` of this tower."""
    return {
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "hidden_size": text.width,
        "intermediate_size": text.mlp_width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "layer_norm_eps": text.norm_eps,
        "pad_token_id": text.pad_id,
    }
