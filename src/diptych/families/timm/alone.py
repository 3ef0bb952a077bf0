"""timm's models alone, as timm saves them and the hub has them: the weights under timm's own names,
and a `config.json` that says of which architecture they are.

https://github.com/huggingface/pytorch-image-models, timm/models/_hub.py
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, PreprocessConfig, TowerConfig
from diptych.config.serialize import from_dict, read_as
from diptych.errors import CheckpointError, ConfigError
from diptych.families.timm.config import TimmConfig
from diptych.families.timm.layouts import CLASSIFIERS, classifier_of
from diptych.families.timm.model import fixed_size
from diptych.weights.layout import Export, Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Rule, Table
from diptych.weights.read import read_json
from diptych.weights.state import State

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_SIZE = "img_size"
_MODES = {"center": "shortest", "squash": "squash", "border": "longest"}
"""By timm's `crop_mode`, how a picture becomes a square."""


def table(names: Collection[str]) -> Table:
    """All is the trunk's but the classifier, which projects: a CLIP model's matrix to the shared
    space stands there. One of ImageNet's classes stays behind."""
    name = next((name for name in CLASSIFIERS if f"{name}.weight" in names), "")
    trunk = Rule("image.trunk.*", "*")
    if not name:
        return Table(rules=(trunk,))
    if isinstance(names, State) and _classes(len(names.shapes[f"{name}.weight"])):
        return Table(rules=(trunk,), ignored=(f"{name}.*",), noted=(f"{name}.*",))
    return Table(rules=(Rule("image.projection.*", f"{name}.*"), trunk))


def _classes(rows: int) -> bool:
    """Whether a classifier with so many rows is one of ImageNet's, of whatever subset."""
    from timm.data.imagenet_info import infer_imagenet_subset

    return infer_imagenet_subset({"num_classes": rows}) is not None


def is_described(source: WeightSource) -> bool:
    """Whether timm's config.json lies beside the weights."""
    file = source.file.parent / CONFIG
    return file.is_file() and _architecture(read_json(file)) is not None


def _architecture(content: Mapping[str, Any]) -> str | None:
    name = content.get("architecture")
    return name if isinstance(name, str) else None


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From config.json. Raises CheckpointError for what it doesn't describe."""
    file = source.file.parent / CONFIG
    tower = describe_image(read_json(file), file)
    if tower is None:
        raise CheckpointError(f"{CONFIG} names no architecture of timm's")
    return tower, {"config": CONFIG}


def describe_image(content: dict[str, Any], path: Path) -> TimmConfig | None:
    """The tower that timm's config.json describes; None: it is of somebody else."""
    name = _architecture(content)
    if name is None:
        return None
    try:
        options = read_as(dict[str, Any], content.get("model_args") or {}, "model_args")
        options.pop("num_classes", None)
        size = options.pop(_SIZE, None) or _published(content).get("input_size") or fixed_size(name)
        side = size[-1] if isinstance(size, list) else size or TimmConfig.image_size
        side = read_as(int, side, _SIZE)
        return TimmConfig(name=name, image_size=side, options=options, projection="classifier")
    except (ConfigError, TypeError, LookupError) as error:
        raise CheckpointError(f"{path.name} describes no model of timm's: {error}") from error


def _published(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the weights; older files have it beside the architecture."""
    return read_as(dict[str, Any], content.get("pretrained_cfg") or content, "pretrained_cfg")


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """As timm evaluates. Raises CheckpointError for pictures that Diptych makes in no such way."""
    file = folder / CONFIG
    said = _published(read_json(file)) if file.is_file() else {}
    if "mean" not in said or "std" not in said:
        return None
    share, mode = said.get("crop_pct") or 1.0, said.get("crop_mode") or "center"
    if mode not in _MODES or (mode != "center" and share != 1):
        raise CheckpointError(
            f"{CONFIG}: pictures are cut by {mode!r} with a share of {share}, which isn't here"
        )
    try:
        how = {"mean": said["mean"], "std": said["std"], "crop_share": share}
        how |= {"resize": _MODES[mode], "interpolation": said.get("interpolation") or "bicubic"}
        # timm fills the border with the mean colour; ours is grey.
        how |= {"fill": round(255 * sum(said["mean"]) / 3)} if mode == "border" else {}
        return Inputs(preprocess=from_dict(PreprocessConfig, how))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{CONFIG} describes no preprocessing: {error}") from error


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """Both files, for `timm.create_model("local-dir:FOLDER", pretrained=True)`.

    Raises CheckpointError for another tower than timm's own, and for a projection that isn't its
    classifier.
    """
    image, how = config.image, config.preprocess
    if not isinstance(image, TimmConfig) or image.deploy:
        raise CheckpointError("timm has image towers of its own alone, with all their branches")
    if config.projected and image.projection != "classifier":
        raise CheckpointError("of timm's models the classifier projects, and nothing behind it")
    modes = {resize: mode for mode, resize in _MODES.items()}
    classes = config.embed_dim if config.projected else 0
    rules = [Rule("image.trunk.*", "*")]
    if config.projected:
        rules.insert(0, Rule("image.projection.*", f"{classifier_of(image.name)}.*"))
    tower = {name: tensor for name, tensor in state.items() if name != "logit_scale"}
    weights = Table(rules=tuple(rules)).to_foreign(tower)
    side, fixed = image.image_size, fixed_size(image.name) is not None
    arguments = image.options | ({_SIZE: side} if fixed else {})
    said = {
        "input_size": [3, side, side],
        "fixed_input_size": fixed,
        "interpolation": how.interpolation,
        "crop_pct": how.crop_share,
        "crop_mode": modes[how.resize],
        "mean": list(how.mean),
        "std": list(how.std),
        "num_classes": classes,
    }
    content = {"architecture": image.name, "num_classes": classes, "model_args": arguments}
    folder.mkdir()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(content | {"pretrained_cfg": said}, indent=2)
    (folder / CONFIG).write_text(f"{text}\n")


TIMM = Layout(
    name="timm",
    image=(),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    inputs=alone_inputs,
    config_file=CONFIG,
    is_described=is_described,
    describe_image=describe_image,
    weight_files=(WEIGHTS, "pytorch_model.bin"),
    exports=(
        Export(
            name="timm",
            write=export,
            holds=lambda tower: isinstance(tower, TimmConfig),
            alone=True,
        ),
    ),
)


def layouts() -> tuple[Layout, ...]:
    """timm's own."""
    return (TIMM,)
