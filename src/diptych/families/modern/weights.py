"""What the weights of "modern" texts tell, and how they are resized."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.weights import has_plain_blocks, heads
from diptych.families.modern.config import (
    ModernDecoderConfig,
    ModernTextConfig,
    TwoPassReadersConfig,
)
from diptych.weights.layout import GIVE_CONFIG
from diptych.weights.mapping import count_numbers
from diptych.weights.state import Lazy, State
from diptych.weights.tower import TowerWeights

_FIRST, _QKV = "blocks.0.", "blocks.0.attention.qkv.weight"
IDS = {
    50260: {"start_id": 50259, "end_id": 50257, "pad_id": 50258},
    49408: {"start_id": 49406, "end_id": 49407, "pad_id": 0},
}
"""Of open_clip's configurations, by their vocabulary: tiktoken's `r50k_base` with three ids behind
it, and CLIP's."""


class ModernTextWeights(TowerWeights):
    """Of the text tower."""

    def infer(
        self, shapes: Mapping[str, Tensor], activation: Activation
    ) -> ModernTextConfig | None:
        """All that shapes tell; the rest as open_clip's configurations have it: causal, read at the
        end where there is no query, GELU in an ungated perceptron. Raises CheckpointError for a
        vocabulary that none of them has, whose special ids can't be told."""
        if not {"tokens.weight", _QKV} <= shapes.keys() or has_plain_blocks(shapes):
            return None
        return ModernTextConfig(
            **_inferred(shapes, len(shapes["tokens.weight"]), "text tower"),
            reading="query" if "pool.query" in shapes else "end",
            still_padding=len(shapes["tokens.weight"]) != 49408,
            registers=shapes["registers"].shape[1] if "registers" in shapes else 0,
            pre_norm="norm_pre.weight" in shapes,
            projection_bias="projection.bias" in shapes,
            context_length=76 if len(shapes["tokens.weight"]) == 49408 else 256,
        )

    def resize(self, state: State, config: ModernTextConfig) -> tuple[State, list[str]]:
        """As they are: nothing depends on the context. Raises CheckpointError for another
        vocabulary."""
        words = len(state.shapes.get("tokens.weight", ()))
        if words and words != config.vocab_size:
            raise CheckpointError(
                f"its vocabulary has {words} entries, and this tower's has {config.vocab_size}"
            )
        return state, []


class ModernDecoderWeights(TowerWeights):
    """Of the decoder."""

    def infer(
        self, shapes: Mapping[str, Tensor], activation: Activation
    ) -> ModernDecoderConfig | None:
        """As `ModernTextWeights.infer`."""
        if not {"projection.weight", _QKV, f"{_FIRST}reader.q.weight"} <= shapes.keys():
            return None
        layers = count_numbers(shapes, "blocks.")
        readers = sum(f"blocks.{i}.reader.q.weight" in shapes for i in range(layers))
        words = len(shapes["projection.weight"])
        return ModernDecoderConfig(
            **_inferred(shapes, words, "decoder"),
            step=-(-layers // max(1, readers)),
            context_length=76 if words == 49408 else 256,
        )


_WORDS, _HEAD = "text.tokens.weight", "decoder.projection.weight"


class TwoPassReadersWeights(TowerWeights):
    """Of what reads pictures in the text tower's blocks."""

    def shared(self, state: State, config: TwoPassReadersConfig) -> State:
        """Of a `tied` one, the words' table alone, where a file has it under both names or under
        the decoder's. Raises CheckpointError, when the table is asked for, where the two differ."""
        if not config.tied or _HEAD not in state:
            return state
        rest = dict(state.lazies)
        head = rest.pop(_HEAD)
        words = rest.get(_WORDS, head)
        rest[_WORDS] = words if words is head else _alike(words, head)
        return State(rest)


def _alike(words: Lazy, head: Lazy) -> Lazy:
    """The first, compared with the second when it is asked for."""
    return Lazy(
        words.like,
        lambda: one_matrix([words.make(), head.once()]),
        lambda: one_matrix([words.once(), head.once()]),
    )


def one_matrix(parts: list[Tensor]) -> Tensor:
    """The words' table, of that and what makes logits, which are one (`tied`). Raises
    CheckpointError where they differ."""
    words, head = parts
    if words.data_ptr() != head.data_ptr() and not torch.equal(words, head):
        raise CheckpointError(
            "the words' table and lm_head are one matrix by the configuration (tie_lm_head), and "
            "they differ: without that option they are two"
        )
    return words


def _inferred(shapes: Mapping[str, Tensor], words: int, side: str) -> dict[str, Any]:
    """Fields of a `ModernSizes`, and special ids."""
    if words not in IDS:
        raise CheckpointError(
            f"which of the {words} ids of its {side} begin, end and pad a text can't be told; "
            f"{GIVE_CONFIG}"
        )
    first = {n.removeprefix(_FIRST): t for n, t in shapes.items() if n.startswith(_FIRST)}
    later = any(name.endswith("attention.value_mix") for name in shapes)
    gated_mlp = "mlp.gate_up.weight" in first
    width = shapes[_QKV].shape[1]
    normed = first.get("attention.norm_queries.weight")
    scale = first.get("scale_1.gains")
    return IDS[words] | {
        "vocab_size": words,
        "width": width,
        "layers": count_numbers(shapes, "blocks."),
        "heads": heads(width, side) if normed is None else width // len(normed),
        "mlp_width": first["mlp.down.weight"].shape[1],
        "mlp": "swiglu" if gated_mlp else "gelu",
        "norm": "layer" if "norm_1.bias" in first else "rms",
        "qk_norm": normed is not None,
        "gated": "attention.gate.weight" in first,
        "sandwich": "norm_1_post.weight" in first,
        "layer_scale": None if scale is None else 1e-5,
        "value_residual": later,
        "attention_bias": "attention.qkv.bias" in first,
        "gate_bias": "attention.gate.bias" in first,
        "mlp_bias": "mlp.down.bias" in first,
    }
