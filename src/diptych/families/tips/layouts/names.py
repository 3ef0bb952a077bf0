"""How TIPS's weights are called: by their authors, whose names transformers writes into its folders
with `vision_encoder.` and `text_encoder.` before them, and in the modules of transformers.

https://github.com/google-deepmind/tips, pytorch/;
https://github.com/huggingface/transformers, models/tipsv2, conversion_mapping.py
"""

from collections.abc import Collection

from torch import Tensor

from diptych.families.clip.layouts import openai, transformers_names
from diptych.weights.mapping import BATCHED, FUSED, PAIRED, Change, Row, Rule, Table, rows

IMAGE, TEXT = "vision_encoder.", "text_encoder."
_MODULES = ("vision_model.embeddings.register_tokens", "embeddings.register_tokens")
"""Names of transformers' modules, of which one tells an image tower."""
IMAGE_MARKS = (f"{IMAGE}register_tokens", _MODULES[0], _MODULES[1], "register_tokens")
_WORDS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
TEXT_MARKS = (f"{TEXT}token_embedding.weight", _WORDS[0], _WORDS[1], "token_embedding.weight")
NOTED = (
    "mask_token",
    f"{IMAGE}mask_token",
    "embeddings.mask_token",
    "vision_model.embeddings.mask_token",
)
"""Masked image modelling has its own here."""


def _placed(parts: list[Tensor]) -> Tensor:
    """[1, 1, width] and the first row of [1, 1 + patches, width] as [width]."""
    token, positions = parts
    return token[0, 0] + positions[0, 0]


def _unplaced(ours: Tensor) -> list[Tensor]:
    """The token, and a table that is only a row of zeros: `_with_row` writes the whole one."""
    return [ours[None, None], ours.new_zeros(1, 1, len(ours))]


def _with_row(ours: Tensor) -> list[Tensor]:
    """[patches, width] as [1, 1 + patches, width]: the class token's position is in the token."""
    made = ours.new_zeros(1, 1 + len(ours), ours.shape[1])
    made[0, 1:] = ours
    return [made]


def _scale(parts: list[Tensor]) -> Tensor:
    """The logarithm of the factor of a temperature, which divides."""
    (temperature,) = parts
    return -temperature.double().log().reshape(1).to(temperature.dtype)


def _temperature(ours: Tensor) -> list[Tensor]:
    return [(-ours.double()).exp().to(ours.dtype).reshape(())]


_PLACED = Change(_placed, _unplaced)
_PATCHES = Change(lambda parts: parts[0][0, 1:].contiguous(), _with_row)
SCALE = Rule("logit_scale", "temperature", Change(_scale, _temperature))


def _embedded(prefix: str, token: str, positions: str) -> tuple[Rule, ...]:
    """The class token, to which its position is added, as timm has it: nothing else reads either.
    Written, it has a position of zeros."""
    sources = (prefix + token, prefix + positions)
    return (
        Rule("image.class_token", sources, _PLACED, shares=True),
        Rule("image.positions", prefix + positions, _PATCHES),
    )


_BLOCK: tuple[Row, ...] = (
    ("norm_1.*", "norm1.*"),
    ("attention.qkv.*", "attn.qkv.*"),
    ("attention.out.*", "attn.proj.*"),
    ("scale_1", "ls1.gamma"),
    ("norm_2.*", "norm2.*"),
    ("mlp.up.*", "mlp.fc1.*"),
    ("mlp.down.*", "mlp.fc2.*"),
    ("mlp.up.*", "mlp.c_fc.*"),  # so transformers writes them
    ("mlp.down.*", "mlp.c_proj.*"),
    ("mlp.gate_up.*", "mlp.w12.*"),
    ("scale_2", "ls2.gamma"),
)
_GATED: tuple[Row, ...] = (("mlp.down.*", "mlp.w3.*"),)
"""Before the others: gated perceptrons are called otherwise."""


def _authors_image(prefix: str, gated: bool) -> tuple[Rule, ...]:
    return (
        *_embedded(prefix, "cls_token", "pos_embed"),
        *rows(
            "image.",
            prefix,
            ("registers", "register_tokens", BATCHED),
            ("patch.*", "patch_embed.proj.*"),
            ("norm_post.*", "norm.*"),
        ),
        *rows("image.blocks.#.", f"{prefix}blocks.#.", *(_GATED if gated else ()), *_BLOCK),
    )


def _authors_text(prefix: str) -> tuple[Rule, ...]:
    return (
        *rows(
            "text.",
            prefix,
            ("tokens.weight", "token_embedding.weight"),
            ("norm_post.*", "ln_final.*"),
        ),
        *rows("text.blocks.#.", f"{prefix}transformer.resblocks.#.", *openai.BLOCK),
    )


_PROJECTIONS = ("attention.q_proj.*", "attention.k_proj.*", "attention.v_proj.*")
_MODULE_BLOCK: tuple[Row, ...] = (
    ("norm_1.*", "norm1.*"),
    ("attention.qkv.*", _PROJECTIONS, FUSED),
    ("attention.out.*", "attention.o_proj.*"),
    ("scale_1", "layer_scale1.lambda1"),
    ("norm_2.*", "norm2.*"),
    ("mlp.up.*", "mlp.fc1.*"),
    ("mlp.down.*", "mlp.fc2.*"),
    ("mlp.gate_up.*", ("mlp.gate_proj.*", "mlp.up_proj.*"), PAIRED),
    ("mlp.down.*", "mlp.down_proj.*"),
    ("scale_2", "layer_scale2.lambda1"),
)


def _modules(image: str, text: str) -> tuple[Rule, ...]:
    return (
        *_embedded(f"{image}embeddings.", "cls_token", "position_embeddings"),
        *rows(
            "image.",
            image,
            ("registers", "embeddings.register_tokens", BATCHED),
            ("patch.*", "embeddings.patch_embeddings.projection.*"),
            ("norm_post.*", "layernorm.*"),
        ),
        *rows("image.blocks.#.", f"{image}encoder.layer.#.", *_MODULE_BLOCK),
        *rows(
            "text.",
            text,
            ("tokens.weight", "embeddings.token_embedding.weight"),
            ("norm_post.*", "final_layer_norm.*"),
        ),
        *rows("text.blocks.#.", f"{text}encoder.layers.#.", *transformers_names.BLOCK),
    )


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    if any(name in names for name in (*_MODULES, *_WORDS)):
        whole = any(name.startswith(("vision_model.", "text_model.")) for name in names)
        rules = _modules("vision_model.", "text_model.") if whole else _modules("", "")
        return Table(rules=(SCALE, *rules), noted=NOTED)
    whole = any(name.startswith((IMAGE, TEXT)) for name in names)
    gated = any(name.endswith(".mlp.w12.weight") for name in names)
    return _authors(IMAGE if whole else "", TEXT if whole else "", gated)


def _authors(image: str, text: str, gated: bool) -> Table:
    rules = (SCALE, *_authors_image(image, gated), *_authors_text(text))
    return Table(rules=rules, noted=NOTED)


def export_table(gated: bool, alone: bool) -> Table:
    """The rules for a model of ours, or for a tower alone."""
    return _authors("" if alone else IMAGE, "" if alone else TEXT, gated)
