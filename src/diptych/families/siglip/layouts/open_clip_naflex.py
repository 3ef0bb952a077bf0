"""SigLIP 2's NaFlex image towers in open_clip, whose main branch builds them of timm's parts.

https://github.com/mlfoundations/open_clip, model_configs/ViT-B-16-SigLIP2-naflex.json
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import timm
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.layouts import timm_naflex
from diptych.families.siglip.pretrained import OF_TIMM, SIZES, activation_of
from diptych.weights.mapping import Table

_NAME = re.compile(rf"naflexvit_({'|'.join(timm_naflex.PUBLISHED)})_patch16_siglip")
_RATIOS = {"so400m": 3.7362}
"""timm's, of the perceptrons, where it isn't 4."""
_SILENT = ("use_naflex", "enable_patch_interpolator")
"""Arguments of timm's that say what is so here anyway: patches of other sizes are resized."""
_TABLE = Table(rules=timm_naflex.IMAGE)


def _fits(names: Collection[str]) -> bool:
    """Whether a tower is there, and no other NaFlex of timm's."""
    image = [name for name in names if name.startswith("visual.")]
    return {timm.LATENT, timm_naflex.PATCH} <= {*image} and not _TABLE.unknown(image)


def _read(cfg: dict[str, Any], activation: Activation) -> NaflexImageConfig | None:
    """`image_size` is of the squares that open_clip's towers for pictures of their own aspect take,
    too; the table of positions has a size of its own."""
    said = read_as(dict[str, Any], cfg.get(timm.ARGUMENTS) or {}, timm.ARGUMENTS)
    named = _named(cfg.get("timm_model_name") or "", bool(said.get("use_naflex")))
    if named is None or (cfg.get("timm_pool"), cfg.get("timm_proj")) != ("map", "none"):
        return None
    for name in ("timm_model_name", "timm_pool", "timm_proj", "image_size", timm.ARGUMENTS):
        cfg.pop(name, None)
    for name in _SILENT:
        said.pop(name, None)
    size, known = named
    ratio = said.pop("mlp_ratio", _RATIOS.get(size, 4.0))
    width, patch_size = said.pop("embed_dim", known.width), said.pop("patch_size", known.patch_size)
    side = said.pop("img_size", known.image_size) // patch_size
    rows, columns = said.pop("pos_embed_grid_size", None) or (side, side)
    pool_ratio = said.pop("attn_pool_mlp_ratio", None) or ratio
    found = replace(
        known,
        image_size=rows * patch_size,
        patch_size=patch_size,
        width=width,
        layers=said.pop("depth", known.layers),
        heads=said.pop("num_heads", known.heads),
        mlp_width=int(width * ratio),
        **timm_naflex.take_choices(said),
    )
    if said:
        raise CheckpointError(
            f"vision_cfg.{timm.ARGUMENTS}: {', '.join(said)} has no place in a Diptych model"
        )
    if rows != columns or pool_ratio != ratio:
        raise CheckpointError(
            f"vision_cfg.{timm.ARGUMENTS}: a NaFlex tower's table of positions is a square, and "
            "its pool's mlp_ratio the blocks'"
        )
    return found


def _named(name: str, made: bool) -> tuple[str, NaflexImageConfig] | None:
    """By timm's name: what the size is called, and the tower. `made`: of one for squares."""
    match = OF_TIMM.fullmatch(name) if made else _NAME.fullmatch(name)
    if match is None or match[1] not in SIZES:
        return None
    width, layers, heads, mlp_width = SIZES[match[1]]
    found = NaflexImageConfig(width=width, layers=layers, heads=heads, mlp_width=mlp_width)
    if made:
        found = replace(
            found,
            image_size=int(match[3]),
            patch_size=int(match[2]),
            activation=activation_of(name),
            interpolation="bicubic",
        )
    return match[1], found


def _write(image: NaflexImageConfig) -> dict[str, Any]:
    name, arguments = timm_naflex.architecture(image)
    cfg = {"timm_model_name": name, "timm_model_pretrained": False}
    cfg |= {"timm_pool": "map", "timm_proj": "none"}
    return cfg | ({timm.ARGUMENTS: arguments} if arguments else {})


NAFLEX = OpenClipTower(
    kind=NaflexImageConfig,
    marks=(timm.LATENT,),
    fits=_fits,
    rules=lambda names: timm_naflex.IMAGE,
    export_rules=lambda config: timm_naflex.IMAGE,
    read=_read,
    write=_write,
    pictures=lambda image: {"resize": "native", "patch_size": image.patch_size},
    inferable=False,
    custom_text=lambda config: True,
)
