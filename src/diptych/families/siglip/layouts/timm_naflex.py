"""SigLIP 2's NaFlex image towers in timm's names (`naflexvit_base_patch16_siglip`), which lie alone
in their files.

https://github.com/huggingface/pytorch-image-models, timm/models/naflexvit.py
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, TowerConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import timm
from diptych.families.clip.layouts import timm_description as description
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.clip.layouts.towers import mlp_ratio
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.layouts import naflex
from diptych.families.siglip.pretrained import SIZES
from diptych.families.siglip.weights import HEADS
from diptych.weights.kernels import FROM_MATRIX
from diptych.weights.layout import Export, Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Change, Rule, Table, count_numbers, rows
from diptych.weights.read import read_json
from diptych.weights.state import State

_PATCH, PUBLISHED = "embeds.proj.weight", ("base", "so400m")
_GRID = Change(lambda parts: parts[0].flatten(0, 2), lambda ours: [_as_grid(ours)])
"""[1, side, side, width] there, [side side, width] here."""


def _as_grid(positions: Tensor) -> Tensor:
    side = math.isqrt(len(positions))
    return positions.unflatten(0, (1, side, side))


PATCH = f"{timm.PREFIX}{_PATCH}"
"""In open_clip, which has such a tower by timm's names, too."""
IMAGE = (
    Rule("image.patch.weight", PATCH, FROM_MATRIX),
    *rows(
        "image.",
        timm.PREFIX,
        ("patch.bias", "embeds.proj.bias"),
        ("positions", "embeds.pos_embed", _GRID),
        ("norm_post.*", "norm.*"),
    ),
    *timm.POOL,
    *timm.BLOCKS,
)
_TABLE = Table(rules=timm.bare(IMAGE))
_CHOICES = {
    "activation": ("act_layer", ("gelu_tanh", "gelu")),
    "interpolation": ("pos_embed_interp_mode", ("bilinear", "bicubic")),
}
"""Fields that timm has by another name, and their values, the published models' first."""


def table(names: Collection[str]) -> Table:
    """The same for every file."""
    return _TABLE


def is_described(source: WeightSource) -> bool:
    """Whether the names are those of such a tower, and of no other NaFlex of timm's."""
    names = source.weights.tensors
    return _PATCH in names and not _TABLE.unknown(names)


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From the shapes; heads from config.json, or by the width. Raises CheckpointError for a width
    that was never published, whose heads aren't known."""
    shapes = state.part("image.").shapes
    width, _, patch_size, _ = shapes["patch.weight"].shape
    file = source.file.parent / description.CONFIG
    arguments = description.arguments(read_json(file)) if file.is_file() else {}
    heads = arguments.get("num_heads", HEADS.get(width))
    if not isinstance(heads, int):
        raise CheckpointError(f"no NaFlex of width {width} was published, so its heads are unknown")
    return NaflexImageConfig(
        image_size=math.isqrt(len(shapes["positions"])) * patch_size,
        patch_size=patch_size,
        width=width,
        layers=count_numbers(shapes, "blocks."),
        heads=heads,
        mlp_width=len(shapes["blocks.0.mlp.up.weight"]),
        **take_choices(arguments),
    ), {"config": "shapes"}


def take_choices(arguments: dict[str, Any]) -> dict[str, Any]:
    """Fields that timm has by another name, taken out of its arguments. Raises CheckpointError for
    values that aren't known.

    >>> from diptych.families.siglip.layouts.timm_naflex import take_choices
    >>> take_choices({"act_layer": "gelu"})
    {'activation': 'gelu'}
    """
    found: dict[str, Any] = {}
    for ours, (theirs, values) in _CHOICES.items():
        value = arguments.pop(theirs, None)
        if value is not None and value not in values:
            raise CheckpointError(f"a NaFlex tower's {theirs} is {' or '.join(values)}: {value!r}")
        found |= {} if value is None else {ours: value}
    return found


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """As the authors' code makes pictures; what timm's config.json says is for squares."""
    if not isinstance(tower, NaflexImageConfig):
        return None
    return Inputs(preprocess=naflex.read_preprocess(folder, tower))


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """timm's two files, for `timm.create_model("local-dir:FOLDER", pretrained=True)`, and beside
    them the budget of patches, for which timm has no place, as transformers' image processor has
    it. Raises CheckpointError for a tower of other parts than SigLIP 2's."""
    image = config.image
    assert isinstance(image, NaflexImageConfig)
    name, arguments = architecture(image)
    tower = {name: tensor for name, tensor in state.items() if name.startswith("image.")}
    content = description.content(config, name, 0, arguments, fixed=False)
    description.write(folder, _TABLE.to_foreign(tower), content)
    text = json.dumps(naflex.preprocess_json(config), indent=2)
    (folder / inputs.PREPROCESSOR).write_text(f"{text}\n")


def architecture(image: NaflexImageConfig) -> tuple[str, dict[str, Any]]:
    """timm's name of the tower, and what of it is otherwise there. Raises CheckpointError for a
    tower of other parts than SigLIP 2's.

    >>> from diptych.families.siglip import NaflexImageConfig
    >>> from diptych.families.siglip.layouts.timm_naflex import architecture
    >>> architecture(NaflexImageConfig())
    ('naflexvit_base_patch16_siglip', {})
    """
    if image.activation not in _CHOICES["activation"][1] or image.norm_eps != 1e-6:
        raise CheckpointError(
            f"timm's NaFlex has gelu_tanh or gelu and norms' eps of 1e-06, this one "
            f"{image.activation} and {image.norm_eps}"
        )
    size = (image.width, image.layers, image.heads, image.mlp_width)
    name = next((name for name in PUBLISHED if SIZES[name] == size), None)
    arguments = {} if name else _arguments(image)
    if (image.side, image.patch_size) != (16, 16):
        arguments |= {"pos_embed_grid_size": [image.side] * 2, "patch_size": image.patch_size}
    for ours, (theirs, values) in _CHOICES.items():
        value = getattr(image, ours)
        arguments |= {} if value == values[0] else {theirs: value}
    return f"naflexvit_{name or 'base'}_patch16_siglip", arguments


def _arguments(image: NaflexImageConfig) -> dict[str, Any]:
    ratio = mlp_ratio(image.width, image.mlp_width)
    return {
        "embed_dim": image.width,
        "depth": image.layers,
        "num_heads": image.heads,
        "mlp_ratio": ratio,
        "attn_pool_mlp_ratio": ratio,
    }


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
    exports=(
        Export(
            name="timm",
            write=export,
            holds=lambda tower: isinstance(tower, NaflexImageConfig),
            alone=True,
            cuts=True,
        ),
    ),
)
