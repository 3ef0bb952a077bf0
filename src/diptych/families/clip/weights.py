"""What CLIP's towers' weights tell, and how they are resized."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.config import ResNetConfig, TextConfig, TwoWayTextConfig, VitConfig
from diptych.weights.layout import GIVE_CONFIG
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import KEPT, Grid, resize_grid, stretch_positions
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated

HEAD_WIDTH = 64
"""In OpenAI's code, and most others'; the number of heads can't be seen in the weights."""


class VitWeights(TowerWeights):
    """Of CLIP's vision transformer."""

    sizes = ("image_size", "patch_size")
    not_compared = ("layer_scale",)

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> VitConfig | None:
        """Heads are of 64 channels, as OpenAI's code has them. Weights with a bias of the patches,
        or with an attention pool, are another family's."""
        lacks = not {"class_token", "patch.weight"} <= shapes.keys()
        pooled = any(name.startswith(("pool.", "pools.")) for name in shapes)
        if lacks or "patch.bias" in shapes or pooled:
            return None
        return VitConfig(
            **vit_fields(shapes), activation=activation, layer_scale=layer_scale(shapes)
        )

    def resize(self, state: State, config: VitConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated."""
        grid = Grid(
            positions="positions",
            side=config.side,
            extra=int(config.pool != "mean"),
            patch_size=0 if config.stem_widths else config.patch_size,
        )
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


def vit_fields(shapes: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the weights of a vision transformer tell; heads are of 64 channels."""
    width, _, patch_size, _ = shapes["patch.weight"].shape
    return {
        "image_size": patch_size * grid_side(shapes["positions"]),
        "patch_size": patch_size,
        "width": width,
        "layers": count_numbers(shapes, "blocks."),
        "heads": heads(width, "image"),
        "mlp_width": mlp_width(shapes, "image"),
        "pre_norm": "norm_pre.weight" in shapes,
    }


class ResNetWeights(TowerWeights):
    """Of CLIP's modified ResNet."""

    sizes = ("image_size",)
    projections = ("projection.", "pool.projection.")

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> ResNetConfig | None:
        """Heads of the attention pool are of 64 channels."""
        if "stages.0.0.conv_1.weight" not in shapes or "pool.positions" not in shapes:
            return None
        width = len(shapes["stages.0.0.conv_1.weight"])
        first, second, third, fourth = (count_numbers(shapes, f"stages.{i}.") for i in range(4))
        return ResNetConfig(
            image_size=32 * grid_side(shapes["pool.positions"]),
            layers=(first, second, third, fourth),
            width=width,
            heads=heads(32 * width, "image"),
            head="linear" if "projection.weight" in shapes else "attention",
        )

    def resize(self, state: State, config: ResNetConfig) -> tuple[State, list[str]]:
        """The attention pool's position table, interpolated."""
        grid = Grid(positions="pool.positions", side=config.image_size // 32, extra=1)
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


class TextWeights(TowerWeights):
    """Of CLIP's text transformer."""

    not_compared = ("layer_scale",)

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> TextConfig | None:
        """Heads are of 64 channels, as OpenAI's code has them. Weights with a class token, or with
        other blocks, are another family's."""
        needed = {"tokens.weight", "projection.weight"}
        if not needed <= shapes.keys() or "class_token" in shapes or not has_plain_blocks(shapes):
            return None
        return TextConfig(
            **text_fields(shapes),
            context_length=len(shapes["positions"]),
            activation=activation,
            projection_bias="projection.bias" in shapes,
            layer_scale=layer_scale(shapes),
        )

    def resize(self, state: State, config: TextConfig) -> tuple[State, list[str]]:
        """A table of longer texts is cut: a token's position means the same in it. One of shorter
        texts is stretched (`stretch_positions`). Raises CheckpointError for another vocabulary."""
        shapes = state.shapes
        words, length = (len(shapes.get(name, ())) for name in ("tokens.weight", "positions"))
        if words and words != config.vocab_size:
            raise CheckpointError(
                f"its vocabulary has {words} entries, and this tower's has {config.vocab_size}"
            )
        if 0 < length < config.context_length:
            table = stretch_positions(state["positions"], config.context_length)
            said = f"positions is stretched from {length} to {len(table)} tokens"
            return state.updated({"positions": table}), [f"{said}, the first {KEPT} are kept"]
        if length <= config.context_length:
            return state, []
        cut = state.updated({"positions": state["positions"][: config.context_length]})
        return cut, [f"positions is cut from {length} to {config.context_length} tokens"]


class TwoWayTextWeights(TowerWeights):
    """Of text transformers that are read out at the last place."""

    def resize(self, state: State, config: TwoWayTextConfig) -> tuple[State, list[str]]:
        """As they are. Raises CheckpointError for another vocabulary or context: the text is read
        at the last place, so a table can't be cut."""
        shapes = state.shapes
        for name, size, what in (
            ("tokens.weight", config.vocab_size, "entries in its vocabulary"),
            ("positions", config.context_length, "tokens in a text"),
        ):
            if name in shapes and len(shapes[name]) != size:
                raise CheckpointError(f"it has {len(shapes[name])} {what}, and this tower {size}")
        return state, []


def text_fields(shapes: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the weights of a text transformer tell; heads are of 64 channels."""
    vocab_size, width = shapes["tokens.weight"].shape
    return {
        "vocab_size": vocab_size,
        "width": width,
        "layers": count_numbers(shapes, "blocks."),
        "heads": heads(width, "text"),
        "mlp_width": mlp_width(shapes, "text"),
    }


def heads(width: int, tower: str) -> int:
    """Of 64 channels. Raises CheckpointError for a width that isn't a multiple of it."""
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"the heads of the {tower} tower, of width {width}, can't be told; {GIVE_CONFIG}"
        )
    return width // HEAD_WIDTH


def mlp_width(shapes: Mapping[str, Tensor], tower: str) -> int:
    """Of the first block. Raises CheckpointError for a tower without blocks."""
    first = shapes.get("blocks.0.mlp.up.weight")
    if first is None:
        raise CheckpointError(f"the {tower} tower has no blocks")
    return len(first)


def has_plain_blocks(shapes: Mapping[str, Tensor]) -> bool:
    """Whether the first block may be CLIP's: nothing in it is gated, queries have no norm of their
    own, and norms have biases."""
    names = {name.removeprefix("blocks.0.") for name in shapes if name.startswith("blocks.0.")}
    others = {"attention.gate.weight", "attention.norm_queries.weight", "mlp.gate_up.weight"}
    return not names & others and ("norm_1.bias" in names or "norm_1.weight" not in names)


def layer_scale(shapes: Mapping[str, Tensor]) -> float | None:
    """Where blocks have scales, what published ones began with: trained weights don't tell it."""
    return 1e-4 if "blocks.0.scale_1" in shapes else None


def grid_side(positions: Tensor) -> int:
    """Patches along one side, from a position table with a class token. Raises CheckpointError for
    a table of another length."""
    side = math.isqrt(len(positions) - 1)
    if side * side + 1 != len(positions):
        raise CheckpointError(
            f"{len(positions)} positions are not a class token and a square of patches"
        )
    return side
