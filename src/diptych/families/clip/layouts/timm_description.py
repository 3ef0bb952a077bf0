"""timm's config.json beside weights: the architecture, its arguments, and how pictures are made.

https://github.com/huggingface/pytorch-image-models, timm/models/_hub.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, PreprocessConfig, TowerConfig
from diptych.config.serialize import from_dict, read_as
from diptych.errors import CheckpointError, ConfigError
from diptych.weights.layout import Inputs
from diptych.weights.read import read_json
from diptych.weights.writing import save_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_MODES = {"center": "shortest", "squash": "squash", "border": "longest"}
"""By timm's `crop_mode`, how a picture becomes a square."""


def architecture(content: Mapping[str, Any]) -> str | None:
    """timm's name; None: the file is of somebody else."""
    name = content.get("architecture")
    return name if isinstance(name, str) else None


def arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `timm.create_model` gets beside the name, without the classes."""
    found = read_as(dict[str, Any], content.get("model_args") or {}, "model_args")
    return {name: value for name, value in found.items() if name != "num_classes"}


def published(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the weights; older files have it beside the architecture."""
    return read_as(dict[str, Any], content.get("pretrained_cfg") or content, "pretrained_cfg")


def input_size(content: Mapping[str, Any]) -> int | None:
    """The side of the pictures; None: nothing says it."""
    size = published(content).get("input_size")
    if size is None:
        return None
    sides = [size] if isinstance(size, int) else read_as(list[int], list(size), "input_size")
    return sides[-1] if sides else None


def inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """As timm evaluates what lies in the folder. Raises CheckpointError for pictures that Diptych
    makes in no such way."""
    file = folder / CONFIG
    said = published(read_json(file)) if file.is_file() else {}
    how = preprocess(said)
    return None if how is None else Inputs(preprocess=how)


def preprocess(said: Mapping[str, Any]) -> PreprocessConfig | None:
    """By a `pretrained_cfg`; None: it says nothing of pictures. Raises as `inputs`."""
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
        return from_dict(PreprocessConfig, how)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{CONFIG} describes no preprocessing: {error}") from error


def content(
    config: ClipConfig, name: str, classes: int, arguments: Mapping[str, Any], fixed: bool
) -> dict[str, Any]:
    """config.json of a model of timm's architecture `name`; `fixed`: it takes pictures of one size
    alone."""
    how, side = config.preprocess, config.image.image_size
    modes = {resize: mode for mode, resize in _MODES.items()}
    said = {
        "input_size": [3, side, side],
        "fixed_input_size": fixed,
        "interpolation": how.interpolation,
        # A NaFlex picture is neither cut nor squashed.
        "crop_pct": how.crop_share,
        "crop_mode": modes.get(how.resize, "center"),
        "mean": list(how.mean),
        "std": list(how.std),
        "num_classes": classes,
    }
    given = {"num_classes": classes, "model_args": dict(arguments), "pretrained_cfg": said}
    return {"architecture": name} | given


def write(folder: Path, weights: dict[str, Tensor], content: Mapping[str, Any]) -> None:
    """Both files, in a new folder."""
    folder.mkdir()
    save_tensors(folder / WEIGHTS, weights, {"format": "pt"})
    (folder / CONFIG).write_text(f"{json.dumps(content, indent=2)}\n")
