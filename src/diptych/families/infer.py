"""A model's configuration, inferred from the shapes of its weights."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from diptych.config import (
    Activation,
    ClipConfig,
    DecoderConfig,
    ImageTowerConfig,
    TextTowerConfig,
    TowerConfig,
)
from diptych.config.model import SIGLIP_BIAS
from diptych.errors import CheckpointError
from diptych.families import tower_configs
from diptych.weights.layout import GIVE_CONFIG
from diptych.weights.state import State
from diptych.weights.tower import tower_weights

T = TypeVar("T", bound=TowerConfig)


def infer(weights: Mapping[str, Tensor], activation: Activation) -> ClipConfig:
    """The configuration behind weights under our names: towers as their families infer them, CLIP's
    preprocessing.

    The activation leaves no trace in weights, so the caller says it. Raises CheckpointError for
    towers whose configuration can't be inferred (another library's).

    >>> from diptych import models, pretrained
    >>> from diptych.families.infer import infer
    >>> known = pretrained.get("vit-l-14")
    >>> infer(models.build(known, device="meta").state_dict(), "gelu") == known
    True
    """
    state = State.of(weights)
    shapes = state.shapes
    image, text = infer_image(state, activation), infer_text(state, activation)
    return ClipConfig(
        image=image,
        text=text,
        embed_dim=_embed_dim(state, image, text),
        token_dim=len(shapes["image_tokens.weight"]) if "image_tokens.weight" in state else None,
        logit_bias=SIGLIP_BIAS if "logit_bias" in state else None,
        decoder=_decoder(state, activation),
    )


def _embed_dim(state: State, image: ImageTowerConfig, text: TextTowerConfig) -> int:
    """Of the text tower, or where that is in the shared space without a projection of the other."""
    widths = (
        tower_weights(tower).embed_dim(state.part(f"{side}.").shapes)
        for side, tower in (("text", text), ("image", image))
    )
    found = next((width for width in widths if width is not None), None)
    if found is None:
        raise CheckpointError(f"the width of the shared space can't be told; {GIVE_CONFIG}")
    return found


def infer_image(weights: Mapping[str, Tensor], activation: Activation) -> ImageTowerConfig:
    """The image tower's, from names that begin with `image.`. Raises as `infer`."""
    return _infer(
        State.of(weights).part("image.").shapes, activation, ImageTowerConfig, "image tower"
    )


def infer_text(weights: Mapping[str, Tensor], activation: Activation) -> TextTowerConfig:
    """The text tower's, from names that begin with `text.`. Raises as `infer`."""
    shapes = State.of(weights).part("text.").shapes
    return _infer(shapes, activation, TextTowerConfig, "text tower")


def _decoder(state: State, activation: Activation) -> DecoderConfig | None:
    shapes = state.part("decoder.").shapes
    return _infer(shapes, activation, DecoderConfig, "decoder") if shapes else None


def _infer(shapes: Mapping[str, Tensor], activation: Activation, base: type[T], side: str) -> T:
    for kind in tower_configs():
        if issubclass(kind, base):
            found = tower_weights(kind).infer(shapes, activation)
            if isinstance(found, base):
                return found
    raise CheckpointError(
        f"the {side}'s configuration can't be inferred from its weights; {GIVE_CONFIG}"
    )
