"""What the weights of CoCa's parts tell, and how they are resized."""

from collections.abc import Mapping

from torch import Tensor

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.weights import heads, mlp_width, text_fields, vit_fields
from diptych.families.coca.config import (
    Coca2ImageConfig,
    CocaDecoderConfig,
    CocaImageConfig,
    CocaTextConfig,
    PooledVitConfig,
)
from diptych.weights.layout import GIVE_CONFIG
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated


class PooledVitWeights(TowerWeights):
    """Of what both kinds of image towers begin with."""

    sizes = ("image_size", "patch_size")

    def resize(self, state: State, config: PooledVitConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated."""
        grid = Grid(positions="positions", side=config.side, extra=1, patch_size=config.patch_size)
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


class CocaImageWeights(PooledVitWeights):
    """Of the image tower with one pool."""

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> CocaImageConfig | None:
        """Heads are of 64 channels, and 8 in the pool, as in both published models."""
        if not {"class_token", "patch.weight", "pool.query"} <= shapes.keys():
            return None
        queries = len(shapes["pool.query"])
        return CocaImageConfig(**vit_fields(shapes), queries=queries, activation=activation)


class Coca2ImageWeights(PooledVitWeights):
    """Of the image tower with two pools."""

    def infer(
        self, shapes: Mapping[str, Tensor], activation: Activation
    ) -> Coca2ImageConfig | None:
        """Heads are of 64 channels, and 8 in the pools. What the query for the contrast reads is
        told by its width. Raises CheckpointError where tokens are as wide as vectors."""
        if not {"class_token", "patch.weight", "pools.contrast.query"} <= shapes.keys():
            return None
        queries, embed_dim = shapes["pools.captions.query"].shape
        fields, read = vit_fields(shapes), len(shapes["pools.contrast.norm_keys.weight"])
        if fields["width"] == embed_dim:
            raise CheckpointError(
                f"tokens and vectors are both {embed_dim} wide, so whether the pools are a cascade "
                f"or parallel can't be told; {GIVE_CONFIG}"
            )
        pools = "cascade" if read == embed_dim else "parallel"
        return Coca2ImageConfig(**fields, queries=queries, pools=pools, activation=activation)


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
