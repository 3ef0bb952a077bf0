"""OpenAI's names, which open_clip's `CLIP` class keeps: https://github.com/openai/CLIP,
clip/model.py."""

from itertools import chain

from diptych.weights.mapping import SCALAR, TRANSPOSED, Rule, rows

SCALE = (
    Rule("logit_scale", "logit_scale", SCALAR),
    Rule("logit_bias", "logit_bias", SCALAR),
)

_BLOCK = (
    ("norm_1.*", "ln_1.*"),
    ("attention.qkv.*", "attn.in_proj_*"),
    ("attention.out.*", "attn.out_proj.*"),
    ("norm_2.*", "ln_2.*"),
    ("mlp.up.*", "mlp.c_fc.*"),
    ("mlp.down.*", "mlp.c_proj.*"),
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
    *rows("image.blocks.#.", "visual.transformer.resblocks.#.", *_BLOCK),
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
        *rows("text.blocks.#.", f"{prefix}transformer.resblocks.#.", *_BLOCK),
    )


IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "*.attn_mask")
"""Numbers that OpenAI's archives repeat, and the causal mask."""
