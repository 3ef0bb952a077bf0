"""SigLIP 2's NaFlex image towers in timm's names (`naflexvit_base_patch16_siglip`), which lie alone
in their files. They are only read.

https://github.com/huggingface/pytorch-image-models, timm/models/naflexvit.py
"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ImageTowerConfig, TowerConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import timm
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.layouts import naflex
from diptych.families.siglip.weights import HEADS
from diptych.weights.layout import Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Change, Rule, Table, count_numbers, rows
from diptych.weights.state import State

_PATCH = "embeds.proj.weight"
_GRID = Change(lambda parts: parts[0].flatten(0, 2), lambda ours: [_as_grid(ours)])
"""[1, side, side, width] there, [side side, width] here."""


def _as_grid(positions: Tensor) -> Tensor:
    side = math.isqrt(len(positions))
    return positions.unflatten(0, (1, side, side))


_TABLE = Table(
    rules=(
        Rule("image.patch.weight", _PATCH, naflex.FROM_MATRIX),
        *rows(
            "image.",
            "",
            ("patch.bias", "embeds.proj.bias"),
            ("positions", "embeds.pos_embed", _GRID),
            ("norm_post.*", "norm.*"),
        ),
        *timm.bare((*timm.POOL, *timm.BLOCKS)),
    )
)


def table(names: Collection[str]) -> Table:
    """The same for every file."""
    return _TABLE


def is_described(source: WeightSource) -> bool:
    """Whether the names are those of such a tower, and of no other NaFlex of timm's."""
    names = source.weights.tensors
    return _PATCH in names and not _TABLE.unknown(names)


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From the shapes. Raises CheckpointError for a width that was never published, whose heads
    aren't known."""
    shapes = state.part("image.").shapes
    width, _, patch_size, _ = shapes["patch.weight"].shape
    if width not in HEADS:
        raise CheckpointError(f"no NaFlex of width {width} was published, so its heads are unknown")
    return NaflexImageConfig(
        image_size=math.isqrt(len(shapes["positions"])) * patch_size,
        patch_size=patch_size,
        width=width,
        layers=count_numbers(shapes, "blocks."),
        heads=HEADS[width],
        mlp_width=len(shapes["blocks.0.mlp.up.weight"]),
    ), {"config": "shapes"}


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """As the authors' code makes pictures; what timm's config.json says is for squares."""
    if not isinstance(tower, NaflexImageConfig):
        return None
    return Inputs(preprocess=naflex.read_preprocess(folder, tower))


# It comes before timm's own layout, which takes whatever has timm's config.json beside it, because
# its family does.
TIMM_NAFLEX = Layout(
    name="timm-naflex",
    image=(_PATCH,),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    inputs=alone_inputs,
    is_described=is_described,
    weight_files=(),
)
