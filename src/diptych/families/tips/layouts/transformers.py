"""The folders of transformers' `Tipsv2Model`, `Tipsv2VisionModel` and `Tipsv2TextModel`, and the
authors' two `.npz` files of a model, a tower each, whose tensors are called the same.

https://huggingface.co/docs/transformers/model_doc/tipsv2
https://github.com/google-deepmind/tips
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TokenizerConfig,
    TowerConfig,
)
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError, misfit
from diptych.families.clip.layouts import transformers
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.clip.layouts.transformers_sections import checked, section
from diptych.families.infer import infer, infer_image, infer_text
from diptych.families.tips.config import TipsImageConfig, TipsTextConfig
from diptych.families.tips.layouts import names, sections
from diptych.families.tips.pretrained import PREPROCESS, TEMPERATURE, TOKENIZER
from diptych.weights.layout import Export, Inputs, Layout, WeightSource
from diptych.weights.read import read_json
from diptych.weights.state import State

MODEL = "tipsv2"
_ASSUMED = "heads of the published widths; TIPS's preprocessing and tokenizer"


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and what lies beside it; without it from the shapes."""
    if (file := _file(source)) is not None:
        return read_file(file), {"config": file.name}
    config = infer(state, "gelu")
    known = {"logit_scale": -math.log(TEMPERATURE), **_inputs(source.file.parent)._asdict()}
    return _replaced(config, known), {"config": "shapes", "assumed": _ASSUMED}


def _replaced(config: ClipConfig, fields: dict[str, Any]) -> ClipConfig:
    return ClipConfig(image=config.image, text=config.text, embed_dim=config.embed_dim, **fields)


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    if (file := _file(source)) is None:
        return infer_image(state, "gelu"), {"assumed": _ASSUMED}
    return describe_image(read_json(file), file) or read_file(file).image, {"config": file.name}


def alone_text(source: WeightSource, state: State) -> tuple[TextTowerConfig, dict[str, Any]]:
    """The text tower's, as `read_config`."""
    if (file := _file(source)) is None:
        return infer_text(state, "gelu"), {"assumed": _ASSUMED}
    content = read_json(file)
    if content.get("model_type") == f"{MODEL}_text_model":
        return sections.text_config(content), {"config": file.name}
    return read_file(file).text, {"config": file.name}


def _file(source: WeightSource) -> Path | None:
    """config.json of weights in a folder of transformers'; the authors' files have none."""
    file = source.file.parent / transformers.CONFIG
    return file if file.is_file() and source.file.suffix != ".npz" else None


def supplied(source: WeightSource) -> Mapping[str, Tensor]:
    """The scale of weights without a temperature, as those on the hub are, by config.json."""
    if "temperature" in source.weights.tensors or not any(
        name in source.weights.tensors for name in names.TEXT_MARKS
    ):
        return {}
    file = _file(source)
    value = TEMPERATURE if file is None else sections.read_temperature(read_json(file))
    return {"logit_scale": torch.tensor([-math.log(value)])}


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """A config.json of `Tipsv2Model`."""
    return read_file(path) if content.get("model_type") == MODEL else None


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The image tower that a config.json of `Tipsv2VisionModel` describes."""
    if content.get("model_type") != f"{MODEL}_vision_model":
        return None
    return sections.image_config(checked(content, path.name))


def read_file(file: Path) -> ClipConfig:
    """From the config.json `file` and what lies beside it. Raises CheckpointError for what has no
    place in a Diptych model."""
    content = read_json(file)
    if (kind := content.get("model_type")) != MODEL:
        raise CheckpointError(f"{file.name} describes a {kind!r} model, not a {MODEL!r} one")
    try:
        image = sections.image_config(section(content, "vision_config"))
        config = ClipConfig(
            image=image,
            text=sections.text_config(section(content, "text_config")),
            embed_dim=image.width,
            logit_scale=-math.log(sections.read_temperature(content)),
            preprocess=_preprocess(file.parent, image),
            tokenizer=_inputs(file.parent).tokenizer,
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except (ConfigError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{file.name} doesn't describe a TIPS model: {misfit(error)}"
        ) from error


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """From preprocessor_config.json, or the tokenizer's files."""
    if isinstance(tower, TipsImageConfig):
        return Inputs(preprocess=_preprocess(folder, tower))
    return _inputs(folder)


def _preprocess(folder: Path, image: TipsImageConfig) -> PreprocessConfig:
    return inputs.read_preprocess(folder, image.image_size, PREPROCESS)


def _inputs(folder: Path) -> Inputs:
    """The authors'; the tokenizer is the folder's own where it has one."""
    own = (folder / "tokenizer_config.json").is_file()
    named = TokenizerConfig(kind="huggingface", name=str(folder), clean=TOKENIZER.clean)
    return Inputs(preprocess=PREPROCESS, tokenizer=named if own else TOKENIZER)


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `Tipsv2Model.from_pretrained`; of a tower alone for `Tipsv2VisionModel` or
    `Tipsv2TextModel`. Raises CheckpointError for what these can't hold."""
    written = _config_json(config)
    image, alone = config.image, config.missing is not None
    if alone:
        state = {name: state[name] for name in state if name != "logit_scale"}
    gated = isinstance(image, TipsImageConfig) and image.mlp == "swiglu"
    weights = names.export_table(gated, alone).to_foreign(state)
    if isinstance(image, TipsImageConfig):
        # transformers would miss it, and fill it with zeros, too.
        prefix = "" if alone else names.IMAGE
        weights[f"{prefix}mask_token"] = state["image.class_token"].new_zeros(1, image.width)
    transformers.write(folder, config, written, weights, _preprocess_json)


def _preprocess_json(config: ClipConfig) -> dict[str, Any]:
    """preprocessor_config.json, for `Tipsv2ImageProcessor`, which crops nothing."""
    said = inputs.preprocess_json(config) | {"processor_class": "Tipsv2Processor"}
    how = config.preprocess
    if (how.mean, how.std) == (PREPROCESS.mean, PREPROCESS.std):
        said["do_normalize"] = False
    if said["do_center_crop"]:
        return said
    del said["crop_size"], said["do_center_crop"]
    return said | {"image_processor_type": "Tipsv2ImageProcessor"}


def _config_json(config: ClipConfig) -> dict[str, Any]:
    image, text = config.image, config.text
    fitting = (isinstance(image, TipsImageConfig), isinstance(text, TipsTextConfig))
    if fitting != (image.present, text.present) or config.logit_bias is not None:
        raise CheckpointError(
            f"transformers' Tipsv2Model has no logit bias, and no place for a "
            f"{type(image).__name__} and a {type(text).__name__}"
        )
    parts: dict[str, dict[str, Any]] = {}
    if isinstance(image, TipsImageConfig):
        parts["Vision"] = {"model_type": f"{MODEL}_vision_model"} | sections.image_json(image)
    if isinstance(text, TipsTextConfig):
        parts["Text"] = {"model_type": f"{MODEL}_text_model"} | sections.text_json(text)
    if config.missing:
        [(side, part)] = parts.items()
        return {"architectures": [f"Tipsv2{side}Model"], **part}
    return {
        "architectures": ["Tipsv2Model"],
        "model_type": MODEL,
        "temperature_init_value": math.exp(-config.logit_scale),
        "vision_config": parts["Vision"],
        "text_config": parts["Text"],
    }


TIPS = Layout(
    name="tips",
    image=names.IMAGE_MARKS,
    text=names.TEXT_MARKS,
    scale=(),
    table=names.table,
    config=read_config,
    config_file=transformers.CONFIG,
    model_types=(MODEL,),
    tower_config=tower_config,
    text_config=alone_text,
    inputs=alone_inputs,
    supplied=supplied,
    describe=describe,
    describe_image=describe_image,
    weight_files=transformers.WEIGHT_FILES,
    exports=(
        Export(
            name="transformers",
            write=export,
            holds=lambda tower: isinstance(tower, TipsImageConfig | TipsTextConfig),
            alone=True,
        ),
    ),
    # Of a text tower alone, CLIP's layouts would take these names for their own that lack some.
    priority=-2,
)
