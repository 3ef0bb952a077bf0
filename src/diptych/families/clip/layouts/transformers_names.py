"""Names of weights in folders of transformers' `CLIPModel`, and of its towers alone.

https://huggingface.co/docs/transformers/model_doc/clip
"""

from collections.abc import Collection

from diptych.weights.mapping import FUSED, SCALAR, Rule, Table, rows

BLOCK = (
    ("norm_1.*", "layer_norm1.*"),
    ("attention.qkv.*", ("self_attn.q_proj.*", "self_attn.k_proj.*", "self_attn.v_proj.*"), FUSED),
    ("attention.out.*", "self_attn.out_proj.*"),
    ("norm_2.*", "layer_norm2.*"),
    ("mlp.up.*", "mlp.fc1.*"),
    ("mlp.down.*", "mlp.fc2.*"),
)


def text(prefix: str) -> tuple[Rule, ...]:
    """The text tower's, without its projection."""
    return (
        *rows(
            "text.",
            prefix,
            ("tokens.weight", "embeddings.token_embedding.weight"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_post.*", "final_layer_norm.*"),
        ),
        *rows("text.blocks.#.", f"{prefix}encoder.layers.#.", *BLOCK),
    )


def vision(prefix: str, blocks: str = "layers") -> tuple[Rule, ...]:
    """The image tower's, without its projection; `blocks`: what stands before their numbers."""
    return (
        *rows(
            "image.",
            prefix,
            ("patch.weight", "embeddings.patch_embedding.weight"),
            ("class_token", "embeddings.class_embedding"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_pre.*", "pre_layrnorm.*"),  # spelt so there
            ("norm_post.*", "post_layernorm.*"),
        ),
        *rows("image.blocks.#.", f"{prefix}encoder.{blocks}.#.", *BLOCK),
    )


TEXT = (Rule("text.projection.weight", "text_projection.weight"), *text("text_model."))
IGNORED = tuple(f"{prefix}embeddings.position_ids" for prefix in ("vision_model.", "text_model."))
TABLE = Table(
    rules=(
        Rule("logit_scale", "logit_scale", SCALAR),
        Rule("image.projection.weight", "visual_projection.weight"),
        *vision("vision_model."),
        *TEXT,
    ),
    ignored=IGNORED,
)
IMAGE_MARKS = ("vision_model.embeddings.class_embedding", "embeddings.class_embedding")
TEXT_MARKS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
_ALONE = {
    IMAGE_MARKS[1]: Table(rules=vision(""), ignored=("embeddings.position_ids",)),
    TEXT_MARKS[1]: Table(rules=text(""), ignored=("embeddings.position_ids",)),
}
"""Towers without their projections as transformers 5 writes them, by the name that tells each."""


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    return next((rules for mark, rules in _ALONE.items() if mark in names), TABLE)
