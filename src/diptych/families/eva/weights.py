"""What an EVA tower's weights tell, and how they are resized."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.weights import grid_side
from diptych.families.eva.config import EvaConfig
from diptych.families.eva.pretrained import entries
from diptych.weights.layout import GIVE_CONFIG
from diptych.weights.mapping import count_numbers
from diptych.weights.resize import Grid, resize_grid
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, interpolated

_ATTENTION_NORM = re.compile(r"blocks\.\d+\.attention\.norm\.(weight|bias)")


class EvaWeights(TowerWeights):
    """Of EVA's vision transformer."""

    sizes = ("image_size", "patch_size")
    not_compared = ("layer_scale", "attention_norm")

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> EvaConfig | None:
        """The published tower of this width, depth, MLP and norms: where its norms stand, its heads
        and rotary positions leave no trace. None for keys with a bias. Raises CheckpointError if
        there is none."""
        marks = {"class_token", "positions", "patch.weight", "patch.bias"}
        if not marks <= shapes.keys() or "blocks.0.attention.qkv.bias" in shapes:
            return None
        mlp = "swiglu" if "blocks.0.mlp.gate_up.weight" in shapes else "gelu"
        norm = "layer" if "norm_post.bias" in shapes else "rms"
        kind = (len(shapes["class_token"]), count_numbers(shapes, "blocks."), mlp, norm)
        known = next((tower for tower in published() if _kind(tower) == kind), None)
        if known is None:
            raise CheckpointError(
                f"no published EVA tower has {kind[1]} blocks of width {kind[0]} with {mlp} MLPs "
                f"and {norm} norms, and other ones can't be inferred from their weights; "
                f"{GIVE_CONFIG}"
            )
        patch_size = shapes["patch.weight"].shape[-1]
        return replace(
            known,
            image_size=patch_size * grid_side(shapes["positions"]),
            patch_size=patch_size,
            attention_norm="blocks.0.attention.norm.weight" in shapes,
        )

    def resize(self, state: State, config: EvaConfig) -> tuple[State, list[str]]:
        """Position table and patches' kernel, interpolated as EVA does: without antialiasing."""
        grid = Grid(
            positions="positions",
            side=config.image_size // config.patch_size,
            extra=1,
            antialias=False,
            patch_size=config.patch_size,
        )
        resized = resize_grid(state, grid)
        return resized, interpolated(state, resized)

    def fresh(self, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, str]:
        """EVA-02's masked image modelling did without the norms inside attention that its
        contrastive training has."""
        lacking = [name for name in ours if _ATTENTION_NORM.fullmatch(name)]
        if set(lacking) & set(theirs):
            return {}
        said = "it has no norms inside attention: weight 1 and bias 0 are kept"
        return dict.fromkeys(lacking, said)


def published() -> Iterator[EvaConfig]:
    """The image towers of the published models."""
    for entry in entries():
        image = entry.image
        assert isinstance(image, EvaConfig)
        yield image


def _kind(tower: EvaConfig) -> tuple[int, int, str, str]:
    """What of a tower can be seen in its weights."""
    return tower.width, tower.layers, tower.mlp, tower.norm
