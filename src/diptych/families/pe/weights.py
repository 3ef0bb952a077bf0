"""What the weights of PE-Core's image tower tell, and how they are resized."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from diptych.config import Activation
from diptych.families.pe.config import PeImageConfig
from diptych.families.pe.pretrained import SIZES
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated


class PeImageWeights(TowerWeights):
    """Of the image tower."""

    sizes = ("image_size", "patch_size")

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> PeImageConfig | None:
        """A tower of a published width; None for others, whose heads aren't known. The activation
        is that with which all were trained; rotary frequencies are taken at the file's own grid, as
        the authors' code takes them."""
        marks = {"pool.query", "pool.mlp.up.weight", "patch.weight", "norm_pre.weight"}
        if not marks <= shapes.keys():
            return None
        width, _, patch_size, _ = shapes["patch.weight"].shape
        heads = {size.width: size.heads for size in SIZES.values()}.get(width)
        token = "class_token" in shapes
        patches = len(shapes["positions"]) - token
        side = math.isqrt(patches)
        if heads is None or side * side != patches:
            return None
        return PeImageConfig(
            image_size=patch_size * side,
            patch_size=patch_size,
            width=width,
            layers=count_numbers(shapes, "blocks."),
            heads=heads,
            mlp_width=len(shapes["blocks.0.mlp.up.weight"]),
            class_token=token,
            rotary_grid=side,
            pool_mlp_width=len(shapes["pool.mlp.up.weight"]),
        )

    def in_form(self, state: State, config: PeImageConfig) -> tuple[State, PeImageConfig]:
        """The projection of the authors' files has no bias, that of timm's has one of zeros: so
        here."""
        weight = state.shapes.get("projection.weight")
        if weight is None or "projection.bias" in state:
            return state, config
        zeros = torch.zeros(len(weight), dtype=weight.dtype)
        return state.updated({"projection.bias": zeros}), config

    def resize(self, state: State, config: PeImageConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated; the rotary grid stays where it is."""
        grid = Grid(
            positions="positions",
            side=config.side,
            extra=int(config.class_token),
            patch_size=config.patch_size,
        )
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)
