"""UniRepLKNet's trunk alone: as its authors publish it, within a detector, or cut out of a CLIP
model.

Training and deploy form have the same layout, and their names say which one it is.
https://github.com/AILab-CVC/UniRepLKNet
"""

from collections.abc import Collection, Mapping
from itertools import chain, permutations
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ImageTowerConfig
from diptych.families.infer import infer_image
from diptych.families.unireplknet.config import UniRepLKNetConfig
from diptych.families.unireplknet.layouts import names as trunk_names
from diptych.weights.atomic import save_torch
from diptych.weights.layout import Export, Layout, WeightSource, refuse
from diptych.weights.mapping import TRANSPOSED, Rule, Table
from diptych.weights.state import State

_WRAPPERS = ("module.", "_orig_mod.", "model.", "image_encoder.", "backbone.", "visual.", "trunk.")
PREFIXES = tuple(
    map("".join, chain.from_iterable(permutations(_WRAPPERS, count) for count in range(4)))
)
"""What may stand before the trunk's names."""
_DETECTORS = (
    "neck.*",
    "rpn_head.*",
    "roi_head.*",
    "bbox_head.*",
    "mask_head.*",
    "decode_head.*",
    "auxiliary_head.*",
)
_TEXT = (
    "text.*",
    "transformer.*",
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.*",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "attn_mask",
)
"""A text tower beside a trunk whose projection lacks."""


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names.

    A classifier is noted and not used. A detector's trunk has a norm behind each stage and none at
    the end: that of the last stage takes its place, so that the normed tokens are the detector's
    last map.
    """
    before = prefix_of(names)
    outer = before.removesuffix("trunk.")
    projections = (
        Rule("image.projection.weight", f"{outer}head.proj.weight"),
        Rule("image.projection.weight", f"{outer}proj", TRANSPOSED),
    )
    if f"{before}norm3.weight" in names:
        stages = tuple(f"{before}norm{stage}.*" for stage in range(3))
        return Table(rules=trunk_names.rules(before, "norm3"), noted=(*stages, *_DETECTORS))
    trunk = trunk_names.rules(before)
    if before.endswith("trunk."):
        return Table(
            rules=(*trunk, *projections, Rule("image.projection.*", f"{before}head.*")), noted=_TEXT
        )
    return Table(
        rules=(*trunk, *projections), noted=(f"{before}head.weight", f"{before}head.bias", *_TEXT)
    )


EXPORT = Table(rules=trunk_names.rules(""))
"""The rules for a trunk of ours."""


def prefix_of(names: Collection[str]) -> str:
    """What stands before the trunk's names; of several trunks, before that of the most."""
    found = [prefix for prefix in PREFIXES if f"{prefix}{trunk_names.MARK}" in names]
    return max(
        found,
        key=lambda prefix: sum(name.startswith(f"{prefix}stages.") for name in names),
        default="",
    )


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From the shapes, which tell everything but the size of the pictures: 224 pixels are
    assumed."""
    return infer_image(state, "gelu"), {}


def export_file(path: Path, config: UniRepLKNetConfig, state: Mapping[str, Tensor]) -> None:
    """The trunk's state dict, as its authors' code loads it; `state` has the image tower alone."""
    save_torch(path, EXPORT.to_foreign({f"image.{name}": state[name] for name in state}))


UNIREPLKNET = Layout(
    name="unireplknet",
    image=tuple(f"{prefix}{trunk_names.MARK}" for prefix in PREFIXES),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    weight_files=(),
    exports=(
        Export(
            name="unireplknet",
            write=export_file,
            place="file",
            part="image",
            holds=lambda image: isinstance(image, UniRepLKNetConfig),
        ),
    ),
    priority=1,  # within open_clip's names
)
