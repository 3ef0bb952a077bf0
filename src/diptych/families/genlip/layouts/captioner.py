"""What open_clip's `NaFlexGenLip` saves: a whole model that writes captions, of which the image
tower is read.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_genlip_model.py
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from diptych.config import ImageTowerConfig, TowerConfig
from diptych.families.clip.layouts.open_clip import CONFIG
from diptych.families.clip.layouts.open_clip_inputs import read_preprocess
from diptych.families.genlip.config import GenlipImageConfig, GenlipNaflexConfig
from diptych.families.genlip.layouts.open_clip import (
    MARK,
    OF_PATCHES,
    SECTION,
    read_tower,
    tower_rules,
)
from diptych.families.infer import infer_image
from diptych.weights.layout import Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Rule, Table
from diptych.weights.read import read_json
from diptych.weights.state import State

ASSUMED = "heads of the published widths; squares of 224 pixels"
TEXT = ("text_embed.*", "text_norm_pre.*", "in_proj.*", "out_proj.*", "lm_head.*")
"""Of words alone: a tower has no use for it."""
_TABLE = Table(
    rules=(*tower_rules(""), Rule("image.projection.*", "visual.proj.*")),
    # The tower stands in such files a second time, as it stands in the model's `visual`.
    ignored=("visual.patch_embed.*", "visual.trunk.*"),
    noted=TEXT,
)


def table(names: Collection[str]) -> Table:
    """The same for every file."""
    return _TABLE


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From open_clip_config.json; without it from the shapes."""
    file = source.file.parent / CONFIG
    if file.is_file() and (tower := describe_image(read_json(file), file)):
        return tower, {"config": CONFIG}
    return infer_image(state, "gelu"), {"assumed": ASSUMED}


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The tower of a model that open_clip's JSON describes, with or without `model_cfg` around it;
    None: it is of another kind."""
    model = content.get("model_cfg", content)
    if SECTION not in model:
        return None
    vision = dict(model.get("vision_cfg") or {})
    kind = GenlipNaflexConfig if vision.pop(OF_PATCHES, True) else GenlipImageConfig
    return read_tower(kind, vision, dict(model[SECTION]))


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs:
    """As open_clip_config.json says, and else as open_clip makes pictures."""
    file = folder / CONFIG
    content = read_json(file) if file.is_file() else {}
    inside = content.get("model_cfg", content).get("preprocess_cfg") or {}
    fixed: dict[str, Any] = {}
    if isinstance(tower, GenlipNaflexConfig):
        fixed = {"resize": "native", "patch_size": tower.patch_size, "patches": tower.side**2}
    said = inside | (content.get("preprocess_cfg") or {})
    return Inputs(preprocess=read_preprocess(said, fixed))


CAPTIONER = Layout(
    name="genlip-open-clip",
    image=(MARK,),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    describe_image=describe_image,
    inputs=alone_inputs,
    config_file=CONFIG,
    weight_files=(),
    priority=1,  # it has the names of open_clip's towers, too
)
