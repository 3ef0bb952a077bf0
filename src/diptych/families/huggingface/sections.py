"""What the `text_config` of transformers' CLIP models says of a BERT, or of its kin, and how it is
said.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from diptych.config.ranges import Context, Layers, Ranged, Share, Width
from diptych.config.serialize import from_dict
from diptych.errors import CheckpointError
from diptych.families.huggingface.config import HuggingFaceTextConfig


@dataclass(frozen=True, kw_only=True)
class BertSizes(Ranged):
    """What a section says of every BERT. What it leaves out is transformers' default, which is
    BERT's own."""

    vocab_size: Width = 30522
    hidden_size: Width = 768
    num_hidden_layers: Layers = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    max_position_embeddings: Context = 512
    type_vocab_size: Width = 2
    layer_norm_eps: Share = 1e-12


OTHERWISE = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
"""What is said of one that isn't as most are."""


def read_options(kind: type[BertSizes], cfg: dict[str, Any]) -> dict[str, Any]:
    """Options of the trunk that a section describes. Raises ConfigError for sizes out of range.

    >>> from diptych.families.huggingface.sections import BertSizes, read_options
    >>> read_options(BertSizes, {"hidden_size": 64, "hidden_act": "relu"})["hidden_act"]
    'relu'
    """
    names = (field.name for field in fields(kind))
    sizes = from_dict(kind, {name: cfg[name] for name in names if name in cfg})
    said = {name: cfg[name] for name, most in OTHERWISE.items() if cfg.get(name, most) != most}
    return asdict(sizes) | said


def options_json(kind: type[BertSizes], text: HuggingFaceTextConfig, owner: str) -> dict[str, Any]:
    """What `read_options` reads. Raises CheckpointError for options that `owner`, a model of
    transformers', doesn't have."""
    known = {**asdict(kind()), **OTHERWISE}
    if other := sorted(set(text.options) - set(known)):
        raise CheckpointError(
            f"transformers' {owner} has no place for a {text.model_type}'s {', '.join(other)}"
        )
    return known | text.options
