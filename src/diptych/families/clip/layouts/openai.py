"""OpenAI's names, which open_clip's `CLIP` class keeps: https://github.com/openai/CLIP,
clip/model.py."""

from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.config import ResNetConfig, TextConfig, VitConfig
from diptych.weights.mapping import SCALAR, TRANSPOSED, Change, Rule, rows
from diptych.weights.resize import KEPT

_HEAD_WIDTH = 64

SCALE = (
    Rule("logit_scale", "logit_scale", SCALAR),
    Rule("logit_bias", "logit_bias", SCALAR),
)

BLOCK = (
    ("norm_1.*", "ln_1.*"),
    ("attention.qkv.*", "attn.in_proj_*"),
    ("attention.out.*", "attn.out_proj.*"),
    ("norm_2.*", "ln_2.*"),
    ("mlp.up.*", "mlp.c_fc.*"),
    ("mlp.down.*", "mlp.c_proj.*"),
    ("scale_#", "ls_#.gamma"),  # of open_clip's alone
)

VIT = (
    *rows(
        "image.",
        "visual.",
        ("patch.weight", "conv1.weight"),
        ("class_token", "class_embedding"),
        ("positions", "positional_embedding"),
        ("norm_pre.*", "ln_pre.*"),
        ("norm_post.*", "ln_post.*"),
        ("projection.weight", "proj", TRANSPOSED),
    ),
    *rows("image.blocks.#.", "visual.transformer.resblocks.#.", *BLOCK),
)

_BOTTLENECK = (
    ("conv_#.weight", "conv#.weight"),
    ("norm_#.*", "bn#.*"),
    ("downsample.conv.weight", "downsample.0.weight"),
    ("downsample.norm.*", "downsample.1.*"),
)


def _stem(i: int) -> tuple[Rule, ...]:
    """A convolution before the stages; they count from 1 there."""
    pairs = (("conv.weight", f"conv{i + 1}.weight"), ("norm.*", f"bn{i + 1}.*"))
    return rows(f"image.stem.{i}.", "visual.", *pairs)


def _stage(i: int) -> tuple[Rule, ...]:
    return rows(f"image.stages.{i}.#.", f"visual.layer{i + 1}.#.", *_BOTTLENECK)


RESNET = (
    *chain.from_iterable(map(_stem, range(3))),
    *chain.from_iterable(map(_stage, range(4))),
    *rows(
        "image.pool.",
        "visual.attnpool.",
        ("positions", "positional_embedding"),
        ("q.*", "q_proj.*"),
        ("k.*", "k_proj.*"),
        ("v.*", "v_proj.*"),
        ("projection.*", "c_proj.*"),
    ),
)


def text(prefix: str) -> tuple[Rule, ...]:
    """The text tower; open_clip's `CustomTextCLIP` puts `text.` before its names."""
    return (
        *rows(
            "text.",
            prefix,
            ("tokens.weight", "token_embedding.weight"),
            ("positions", "positional_embedding"),
            ("norm_post.*", "ln_final.*"),
            ("projection.weight", "text_projection", TRANSPOSED),
        ),
        *rows("text.blocks.#.", f"{prefix}transformer.resblocks.#.", *BLOCK),
    )


LONG = "positional_embedding_res"
"""Long-CLIP's second table of positions, which was trained (Zhang et al. 2024, arXiv:2403.15378,
§3.1); of the first one only the kept rows count."""
TWO_TABLES = Change(
    lambda tables: torch.cat([tables[0][:KEPT], tables[1][KEPT:]]), lambda ours: [ours, ours]
)
LONG_POSITIONS = Rule("text.positions", ("positional_embedding", LONG), TWO_TABLES)

NUMBERS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's archives repeat beside the weights, and nobody else's files have."""
IGNORED = (*NUMBERS, "attn_mask", "*.attn_mask")
"""These, and the causal mask."""


def check(config: ClipConfig) -> None:
    """Raises CheckpointError for a model of which OpenAI's loader, which reads sizes alone, would
    make another one."""
    image, text = config.image, config.text
    if not isinstance(image, VitConfig | ResNetConfig) or not isinstance(text, TextConfig):
        raise CheckpointError(
            f"OpenAI's code has CLIP's towers, and this model has a {type(image).__name__} and a "
            f"{type(text).__name__}; --to native keeps it"
        )
    made = replace(
        config,
        image=_made(image),
        text=TextConfig(
            context_length=text.context_length, layers=text.layers, **_transformer(text.width)
        ),
        token_dim=None,
        logit_bias=None,
        preprocess=PreprocessConfig(fill=config.preprocess.fill),
        tokenizer=TokenizerConfig(),
    )
    for name, (own, theirs) in difference(config, made).items():
        raise CheckpointError(
            f"OpenAI's loader would make of it a model with {name} {theirs} instead of {own}; "
            "--to native keeps it"
        )


def _made(image: VitConfig | ResNetConfig) -> VitConfig | ResNetConfig:
    """The image tower that OpenAI's code builds of these sizes."""
    if isinstance(image, ResNetConfig):
        return replace(image, heads=image.width * 32 // _HEAD_WIDTH, head="attention")
    sizes = {"image_size": image.image_size, "patch_size": image.patch_size}
    return VitConfig(**sizes, layers=image.layers, **_transformer(image.width))


def _transformer(width: int) -> dict[str, Any]:
    heads = max(1, width // _HEAD_WIDTH)
    return {"width": width, "heads": heads, "mlp_width": 4 * width, "activation": "quick_gelu"}
