"""What the weights of GenLIP's image towers tell, and how they are resized."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from diptych.config import Activation
from diptych.families.genlip.config import GenlipImageConfig, GenlipSizes
from diptych.families.genlip.pretrained import SIZES
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated

_BLOCK = "blocks.0."
_BIASES = {"attention_bias": "self_attn.k_proj.bias", "mlp_bias": "mlp.fc1.bias"}
"""Names of the first block that tell of biases."""
_PUBLISHED = {size.width: size for size in SIZES.values()}


class GenlipNaflexWeights(TowerWeights):
    """Of a tower for pictures of their own aspect, which looks like one for squares."""

    def in_form(self, state: State, config: GenlipSizes) -> tuple[State, GenlipSizes]:
        """With biases or without, as the weights are: open_clip's first version of GenLIP had them
        where its configurations say nothing, and its later ones haven't."""
        if f"{_BLOCK}mlp.fc1.weight" not in state:
            return state, config
        said = {field: f"{_BLOCK}{name}" in state for field, name in _BIASES.items()}
        return state, replace(config, **said)

    def resize(self, state: State, config: GenlipSizes) -> tuple[State, list[str]]:
        """Patches' kernel, interpolated; positions are computed."""
        grid = Grid("positions", side=config.side, extra=0, patch_size=config.patch_size)
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)


class GenlipWeights(GenlipNaflexWeights):
    """Of a tower for squares."""

    sizes = ("image_size", "patch_size")

    def infer(
        self, shapes: Mapping[str, Tensor], activation: Activation
    ) -> GenlipImageConfig | None:
        """A tower of a published width; None for others, whose heads aren't known. The side of its
        pictures, on which no weight depends, is the authors'."""
        gate = f"{_BLOCK}self_attn.q_proj.weight"
        if gate not in shapes or "patch.weight" not in shapes:
            return None
        width, _, patch_size, _ = shapes["patch.weight"].shape
        known = _PUBLISHED.get(width)
        if known is None or 224 % patch_size:
            return None
        return GenlipImageConfig(
            patch_size=patch_size,
            width=width,
            layers=count_numbers(shapes, "blocks."),
            heads=known.heads,
            mlp_width=len(shapes[f"{_BLOCK}mlp.fc1.weight"]),
            gated_mlp=f"{_BLOCK}mlp.gate_fc.weight" in shapes,
            gated_attention=len(shapes[gate]) == 2 * width,
            qk_norm=f"{_BLOCK}self_attn.q_norm.weight" in shapes,
            rotary_sections=known.rotary_sections,
            layer_scale=0.1 if f"{_BLOCK}layer_scale1.lambda1" in shapes else None,
            norm="layer" if "norm_post.bias" in shapes else "rms",
            attention_bias=f"{_BLOCK}self_attn.k_proj.bias" in shapes,
            mlp_bias=f"{_BLOCK}mlp.fc1.bias" in shapes,
            patch_bias="patch.bias" in shapes,
            pre_norm="norm_pre.weight" in shapes,
        )
