"""What the weights of TIPS's towers tell, and how they are resized."""

import math
from collections.abc import Mapping

from torch import Tensor

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.tips.config import TipsImageConfig, TipsTextConfig
from diptych.families.tips.pretrained import HEADS
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated


class TipsImageWeights(TowerWeights):
    """Of the image tower."""

    sizes = ("image_size", "patch_size")

    def embed_dim(self, shapes: Mapping[str, Tensor]) -> int | None:
        """The tower's width: there is no projection."""
        return len(shapes["class_token"]) if "class_token" in shapes else None

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> TipsImageConfig | None:
        """A tower of a published width with one register; None for others, whose heads aren't
        known."""
        if not {"class_token", "registers", "patch.weight", "blocks.0.scale_1"} <= shapes.keys():
            return None
        width, _, patch_size, _ = shapes["patch.weight"].shape
        gated = "blocks.0.mlp.gate_up.weight" in shapes
        rows = len(shapes["positions"])
        side = math.isqrt(rows)
        if width not in HEADS or side * side != rows or len(shapes["registers"]) != 1:
            return None
        return TipsImageConfig(
            image_size=patch_size * side,
            patch_size=patch_size,
            width=width,
            layers=count_numbers(shapes, "blocks."),
            heads=HEADS[width],
            mlp_width=shapes["blocks.0.mlp.down.weight"].shape[1],
            mlp="swiglu" if gated else "gelu",
        )

    def resize(self, state: State, config: TipsImageConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated; the table bilinearly, as the authors'
        code does."""
        grid = Grid(
            positions="positions",
            side=config.side,
            extra=0,
            patch_size=config.patch_size,
            filter="bilinear",
        )
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


class TipsTextWeights(TowerWeights):
    """Of the text tower."""

    def embed_dim(self, shapes: Mapping[str, Tensor]) -> int | None:
        """The tower's width: there is no projection."""
        return shapes["tokens.weight"].shape[1] if "tokens.weight" in shapes else None

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> TipsTextConfig | None:
        """A tower of a published width; None for others, whose heads aren't known. The context,
        which no weight depends on, is the published models'."""
        others = {"positions", "projection.weight", "class_token"}
        if "tokens.weight" not in shapes or others & shapes.keys():
            return None
        vocab_size, width = shapes["tokens.weight"].shape
        up = shapes.get("blocks.0.mlp.up.weight")
        if width not in HEADS or up is None:
            return None
        return TipsTextConfig(
            vocab_size=vocab_size,
            width=width,
            layers=count_numbers(shapes, "blocks."),
            heads=HEADS[width],
            mlp_width=len(up),
        )

    def resize(self, state: State, config: TipsTextConfig) -> tuple[State, list[str]]:
        """As they are: positions are computed. Raises CheckpointError for another vocabulary."""
        words = state.shapes.get("tokens.weight")
        if words is not None and len(words) != config.vocab_size:
            raise CheckpointError(
                f"its vocabulary has {len(words)} entries, and this tower's has {config.vocab_size}"
            )
        return state, []
