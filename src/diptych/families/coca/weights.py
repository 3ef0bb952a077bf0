"""What the weights of CoCa's parts tell, and how they are resized."""

from collections.abc import Mapping

from torch import Tensor

from diptych.config import Activation
from diptych.families.clip.weights import heads, mlp_width, text_fields, vit_fields
from diptych.families.coca.config import CocaDecoderConfig, CocaImageConfig, CocaTextConfig
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated


class CocaImageWeights(TowerWeights):
    """Of the image tower."""

    sizes = ("image_size", "patch_size")

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> CocaImageConfig | None:
        """Heads are of 64 channels, and 8 in the pool, as in both published models."""
        if not {"class_token", "patch.weight", "pool.query"} <= shapes.keys():
            return None
        queries = len(shapes["pool.query"])
        return CocaImageConfig(**vit_fields(shapes), queries=queries, activation=activation)

    def resize(self, state: State, config: CocaImageConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated."""
        grid = Grid(positions="positions", side=config.side, extra=1, patch_size=config.patch_size)
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


class CocaTextWeights(TowerWeights):
    """Of the text tower."""

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> CocaTextConfig | None:
        """Heads are of 64 channels."""
        if not {"class_token", "tokens.weight"} <= shapes.keys():
            return None
        context = len(shapes["positions"]) - 1
        return CocaTextConfig(**text_fields(shapes), context_length=context, activation=activation)


class CocaDecoderWeights(TowerWeights):
    """Of the decoder."""

    def infer(
        self, shapes: Mapping[str, Tensor], activation: Activation
    ) -> CocaDecoderConfig | None:
        """Heads are of 64 channels; the context, which no weight depends on, is the published
        models'."""
        if not {"projection.weight", "readers.0.qkv.weight"} <= shapes.keys():
            return None
        vocab_size, width = shapes["projection.weight"].shape
        return CocaDecoderConfig(
            vocab_size=vocab_size,
            width=width,
            layers=count_numbers(shapes, "readers."),
            heads=heads(width, "text"),
            mlp_width=mlp_width(shapes, "text"),
            activation=activation,
        )
