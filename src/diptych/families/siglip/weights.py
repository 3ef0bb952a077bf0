"""What the weights of SigLIP's image tower tell, and how they are resized."""

import math
from collections.abc import Mapping

from torch import Tensor

from diptych.config import Activation
from diptych.families.siglip.config import PooledImageConfig, SiglipImageConfig
from diptych.families.siglip.pretrained import SIZES
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated

HEADS = {width: heads for width, _, heads, _ in SIZES.values()}
"""Of the published widths; the number of heads can't be seen in the weights."""


class PooledImageWeights(TowerWeights):
    """Of an image tower whose vectors an attention pool reads: one for pictures of their own aspect
    may start from one for squares, as SigLIP 2's did."""

    def embed_dim(self, shapes: Mapping[str, Tensor]) -> int | None:
        """The tower's width: there is no projection."""
        return len(shapes["pool.query"]) if "pool.query" in shapes else None

    def resize(self, state: State, config: PooledImageConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated."""
        grid = Grid(positions="positions", side=config.side, extra=0, patch_size=config.patch_size)
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


class SiglipImageWeights(PooledImageWeights):
    """Of the image tower for squares."""

    sizes = ("image_size", "patch_size")

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> object | None:
        """A tower of a published width; None for others, whose heads aren't known. The activation
        is that with which all were trained."""
        if not {"pool.query", "patch.weight", "patch.bias"} <= shapes.keys():
            return None
        width, _, patch_size, _ = shapes["patch.weight"].shape
        side = math.isqrt(len(shapes["positions"]))
        if width not in HEADS or side * side != len(shapes["positions"]):
            return None
        return SiglipImageConfig(
            image_size=patch_size * side,
            patch_size=patch_size,
            width=width,
            layers=count_numbers(shapes, "blocks."),
            heads=HEADS[width],
            mlp_width=len(shapes["pool.mlp.up.weight"]),
        )
