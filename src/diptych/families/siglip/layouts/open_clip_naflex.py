"""SigLIP 2's NaFlex image towers in open_clip, whose main branch builds them of timm's parts.

https://github.com/mlfoundations/open_clip, model_configs/ViT-B-16-SigLIP2-naflex.json
"""

import re
from collections.abc import Collection
from typing import Any

from diptych.config import Activation
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import timm
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.layouts import timm_naflex
from diptych.families.siglip.pretrained import SIZES
from diptych.weights.mapping import Table

_NAME = re.compile(rf"naflexvit_({'|'.join(timm_naflex.PUBLISHED)})_patch16_siglip")
_RATIOS = {"base": 4.0, "so400m": 3.7362}
"""timm's, of the perceptrons."""
_TABLE = Table(rules=timm_naflex.IMAGE)


def _fits(names: Collection[str]) -> bool:
    """Whether a tower is there, and no other NaFlex of timm's."""
    image = [name for name in names if name.startswith("visual.")]
    return {timm.LATENT, timm_naflex.PATCH} <= {*image} and not _TABLE.unknown(image)


def _read(cfg: dict[str, Any], activation: Activation) -> NaflexImageConfig | None:
    """`image_size` is of the squares that open_clip's towers for pictures of their own aspect take,
    too; the table of positions has a size of its own."""
    match = _NAME.fullmatch(cfg.get("timm_model_name") or "")
    if not match or (cfg.get("timm_pool"), cfg.get("timm_proj")) != ("map", "none"):
        return None
    for name in ("timm_model_name", "timm_pool", "timm_proj", "image_size"):
        cfg.pop(name, None)
    said = read_as(dict[str, Any], cfg.pop(timm.ARGUMENTS, None) or {}, timm.ARGUMENTS)
    width, layers, heads, _ = SIZES[match[1]]
    ratio = said.pop("mlp_ratio", _RATIOS[match[1]])
    width, patch_size = said.pop("embed_dim", width), said.pop("patch_size", 16)
    rows, columns = said.pop("pos_embed_grid_size", None) or (16, 16)
    pool_ratio = said.pop("attn_pool_mlp_ratio", None) or ratio
    sizes = {"layers": said.pop("depth", layers), "heads": said.pop("num_heads", heads)}
    if said:
        raise CheckpointError(
            f"vision_cfg.{timm.ARGUMENTS}: {', '.join(said)} has no place in a Diptych model"
        )
    if rows != columns or pool_ratio != ratio:
        raise CheckpointError(
            f"vision_cfg.{timm.ARGUMENTS}: a NaFlex tower's table of positions is a square, and "
            "its pool's mlp_ratio the blocks'"
        )
    return NaflexImageConfig(
        image_size=rows * patch_size,
        patch_size=patch_size,
        width=width,
        mlp_width=int(width * ratio),
        **sizes,
    )


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
