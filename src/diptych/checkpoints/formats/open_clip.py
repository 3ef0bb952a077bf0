"""open_clip's layouts: OpenAI's names, `text.` before the text tower's, timm image towers, Hugging
Face text towers.

`open_clip_config.json` beside the weights says what they don't.
https://github.com/mlfoundations/open_clip"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diptych.checkpoints.atomic import save_torch
from diptych.checkpoints.formats import eva_timm, eva_tower, openai, unireplknet_timm
from diptych.checkpoints.formats.base import Format, Source, State
from diptych.checkpoints.formats.open_clip_config import from_json, to_json
from diptych.checkpoints.infer import infer
from diptych.checkpoints.read import read_json
from diptych.checkpoints.rename import Rule, Table
from diptych.config import (
    ClipConfig,
    EvaConfig,
    HuggingFaceTextConfig,
    ResNetConfig,
    TimmConfig,
    UniRepLKNetConfig,
)

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"

_TIMM = (
    Rule("image.trunk.*", "visual.trunk.*"),
    Rule("image.projection.weight", "visual.head.proj.weight"),
)
_HUGGING_FACE = (
    Rule("text.trunk.*", "text.transformer.*"),
    Rule("text.projection.weight", "text.proj.weight"),
)


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    if eva_timm.is_trunk(names):
        image = eva_tower.rules(eva_timm.PREFIX, names)
    elif unireplknet_timm.is_trunk(names):
        image = unireplknet_timm.rules(names)
    elif any(name.startswith(eva_timm.PREFIX) for name in names):
        image = _TIMM
    else:
        image = openai.RESNET if "visual.layer1.0.conv1.weight" in names else openai.VIT
    if "text.token_embedding.weight" in names:
        text = openai.text("text.")
    else:
        text = openai.text("") if "token_embedding.weight" in names else _HUGGING_FACE
    return Table(
        rules=(*openai.SCALE, *image, *text), ignored=(*openai.IGNORED, "text.*.position_ids")
    )


def export_table(config: ClipConfig) -> Table:
    """The rules for a model of ours."""
    prefix = "text." if isinstance(config.image, EvaConfig) else ""
    text = _HUGGING_FACE if isinstance(config.text, HuggingFaceTextConfig) else openai.text(prefix)
    match config.image:
        case EvaConfig():
            image = eva_tower.export_rules(eva_timm.PREFIX, config.image, "timm")
        case UniRepLKNetConfig():
            image = unireplknet_timm.export_rules(config.image)
        case TimmConfig():
            image = _TIMM
        case ResNetConfig():
            image = openai.RESNET
        case _:
            image = openai.VIT
    return Table(rules=(*openai.SCALE, *image, *text))


def read_config(source: Source, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From `open_clip_config.json`; without it from the shapes. GELU is assumed, but in OpenAI's
    archives."""
    if (source.file.parent / CONFIG).is_file():
        return from_json(read_json(source.file.parent / CONFIG)), {"config": CONFIG}
    if source.weights.kind == "archive":
        return infer(state.shapes, "quick_gelu"), {
            "config": "shapes, and quick_gelu as in every OpenAI archive"
        }
    return infer(state.shapes, "gelu"), {
        "config": "shapes; assumed: gelu, heads of 64 channels (give config= if it was other)"
    }


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """Both files, for `open_clip.create_model("local-dir:FOLDER")`.

    Raises CheckpointError for what open_clip can't hold.
    """
    written = to_json(config)
    foreign = export_table(config).to_foreign(state)
    folder.mkdir()
    save_file(foreign, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n")


def export_file(path: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """The state dict alone, as `torch.save` writes it: what OpenAI's and open_clip's loaders take
    as a `.pt`.

    Raises CheckpointError for a tower that these don't have.
    """
    if isinstance(config.image, EvaConfig):
        eva_timm.architecture(config.image)
    if isinstance(config.image, UniRepLKNetConfig):
        unireplknet_timm.architecture(config.image)
    save_torch(path, export_table(config).to_foreign(state))


OPEN_CLIP = Format(
    name="open-clip",
    image=(
        "visual.conv1.weight",
        "visual.head.proj.weight",
        unireplknet_timm.HEAD,
        *eva_timm.MARKS,
    ),
    text=("token_embedding.weight", "text.token_embedding.weight", "text.proj.weight"),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    weight_files=(WEIGHTS, "open_clip_pytorch_model.bin"),
)
