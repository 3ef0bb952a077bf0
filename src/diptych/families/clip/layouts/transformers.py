"""The folder of transformers' `CLIPModel`, and of `MetaClip2Model`, which differs in how it finds
the end of a text: config.json, model.safetensors, preprocessor_config.json, tokenizer files.

https://huggingface.co/docs/transformers/model_doc/clip and metaclip_2
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TowerConfig,
)
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError, misfit
from diptych.families.clip.config import TextConfig, VitConfig
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.clip.layouts.transformers_names import IMAGE_MARKS, TABLE, TEXT_MARKS, table
from diptych.families.clip.layouts.transformers_sections import (
    ACTIVATIONS,
    activation,
    checked,
    read_id,
    read_sizes,
    section,
    sizes,
)
from diptych.families.clip.published import published, published_tower
from diptych.families.infer import infer, infer_image
from diptych.weights.layout import Export, Inputs, Layout, WeightSource
from diptych.weights.read import read_json
from diptych.weights.state import State
from diptych.weights.writing import save_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
WEIGHT_FILES = (
    WEIGHTS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

MODEL_TYPES = ("clip", "metaclip_2")
_VISION_TYPES = (*MODEL_TYPES, "chinese_clip", "altclip")
"""Model types whose image tower is CLIP's."""


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and preprocessor_config.json; without them from the shapes and the published
    models of these, with transformers' default activation."""
    if not (source.file.parent / CONFIG).is_file():
        return published(infer(state, "quick_gelu"))
    return read_file(source.file.parent / CONFIG), {"config": CONFIG}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    file = source.file.parent / CONFIG
    if not file.is_file():
        return published_tower(infer_image(state, "quick_gelu"))
    return describe_image(read_json(file), file) or read_file(file).image, {"config": CONFIG}


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The image tower that a config.json of `CLIPVisionModel` describes."""
    kinds = [f"{name}_vision_model" for name in _VISION_TYPES]
    is_one = content.get("model_type") in kinds
    return image_config(checked(content, path.name)) if is_one else None


def alone_text(source: WeightSource, state: State) -> tuple[TextTowerConfig, dict[str, Any]]:
    """The text tower's, from the config.json of `CLIPTextModel` or `CLIPModel`."""
    file = source.file.parent / CONFIG
    content = checked(read_json(file), file.name) if file.is_file() else {}
    match content.get("model_type"):
        case "clip_text_model":
            return text_config(content), {"config": CONFIG}
        case "metaclip_2_text_model":
            return _metaclip_text(content), {"config": CONFIG}
        case _:
            return read_file(file).text, {"config": CONFIG}


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """From preprocessor_config.json, or the tokenizer's files."""
    if isinstance(tower, TextConfig):
        return Inputs(tokenizer=inputs.read_tokenizer(folder, tower))
    said = any((folder / name).is_file() for name in (inputs.PREPROCESSOR, inputs.PROCESSOR))
    if not said or not isinstance(tower, ImageTowerConfig):
        return None
    return Inputs(preprocess=inputs.read_preprocess(folder, tower.image_size))


def read_file(file: Path) -> ClipConfig:
    """From the config.json `file` and what lies beside it. Raises CheckpointError for another kind
    of model."""
    content = read_json(file)
    kind = content.get("model_type")
    if kind not in MODEL_TYPES:
        raise CheckpointError(f"{file.name} describes a {kind!r} model, not a 'clip' one")
    return model_config(
        file, content, image_config, text_config if kind == "clip" else _metaclip_text
    )


def model_config(
    file: Path,
    content: dict[str, Any],
    image_config: Callable[[dict[str, Any]], ImageTowerConfig],
    text_config: Callable[[dict[str, Any]], TextTowerConfig],
    preprocess: PreprocessConfig | None = None,
) -> ClipConfig:
    """From the `content` of the config.json `file`, by what reads its two sections, and from the
    files beside it; `preprocess`: see `read_preprocess`.

    Raises CheckpointError for what isn't there or has no place in a Diptych model.
    """
    try:
        image = image_config(_section(content, "vision_config"))
        text = text_config(_section(content, "text_config"))
        config = ClipConfig(
            image=image,
            text=text,
            embed_dim=content.get("projection_dim", 512),
            preprocess=inputs.read_preprocess(file.parent, image.image_size, preprocess),
            tokenizer=inputs.read_tokenizer(file.parent, text),
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except (ConfigError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{file.name} doesn't describe a CLIP model: {misfit(error)}"
        ) from error


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    """transformers writes only what differs from its defaults, and once wrote the section under a
    second name."""
    return section(content, name) | section(content, f"{name}_dict")


def image_config(cfg: dict[str, Any]) -> VitConfig:
    """From `vision_config`."""
    return VitConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 32),
        activation=activation(cfg),
        **read_sizes(cfg, VitConfig()),
    )


def text_config(cfg: dict[str, Any]) -> TextConfig:
    """From `text_config`. Its end of text is the highest id, in files of transformers' old days
    said as 2, or any other."""
    highest = _vocab_size(cfg) - 1
    end = _end(cfg, highest)
    return _text_config(cfg, None if end in (2, highest) else end)


def _metaclip_text(cfg: dict[str, Any]) -> TextConfig:
    """There, 2 is 2."""
    return _text_config(cfg, _end(cfg, 49407))


def _end(cfg: dict[str, Any], default: int) -> int:
    end = cfg.get("eos_token_id", default)
    if type(end) is not int:
        raise CheckpointError(f"a text is read at one token; eos_token_id is {end}")
    return read_id(cfg, "eos_token_id", default, _vocab_size(cfg))


def _vocab_size(cfg: dict[str, Any]) -> int:
    return cfg.get("vocab_size", inputs.CLIP_VOCABULARY)


def _text_config(cfg: dict[str, Any], end: int | None) -> TextConfig:
    return TextConfig(
        context_length=cfg.get("max_position_embeddings", 77),
        vocab_size=_vocab_size(cfg),
        activation=activation(cfg),
        end_id=end,
        **read_sizes(cfg, TextConfig()),
    )


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained`; of a tower
    alone for `CLIPVisionModel` or `CLIPTextModel`, with its projection for
    `CLIPVisionModelWithProjection` or `CLIPTextModelWithProjection`.

    Raises CheckpointError for what these can't hold.
    """
    written = _config_json(config)
    if config.missing:
        state = {name: state[name] for name in state if name != "logit_scale"}
    write(folder, config, written, TABLE.to_foreign(state))


def write(
    folder: Path,
    config: ClipConfig,
    written: dict[str, Any],
    weights: dict[str, Tensor],
    preprocess_json: Callable[[ClipConfig], dict[str, Any]] = inputs.preprocess_json,
) -> None:
    """All files of a folder, with this config.json, and the image processor's by `preprocess_json`.
    Raises CheckpointError for inputs that transformers can't make."""
    processor = None if config.missing == "image" else preprocess_json(config)
    folder.mkdir()
    save_tensors(folder / WEIGHTS, weights, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n")
    inputs.write(folder, config, processor)


def _config_json(config: ClipConfig) -> dict[str, Any]:
    image, text = config.image, config.text
    fitting = (isinstance(image, VitConfig), isinstance(text, TextConfig))
    if fitting != (image.present, text.present):
        raise CheckpointError(
            f"transformers' CLIPModel has no place for a {type(image).__name__} "
            f"and a {type(text).__name__}"
        )
    own_end = isinstance(text, TextConfig) and text.end_id is not None
    kind, architecture = ("metaclip_2", "MetaClip2") if own_end else ("clip", "CLIP")
    parts: dict[str, dict[str, Any]] = {}
    if isinstance(image, VitConfig):
        parts["Vision"] = image_json(image, kind, config)
    if isinstance(text, TextConfig):
        _check_unscaled(text)
        named = {"model_type": f"{kind}_text_model"}
        parts["Text"] = named | text_json(text, config.embed_dim)
    if config.missing:
        [(side, part)] = parts.items()
        projection = "WithProjection" if config.projected else ""
        return {"architectures": [f"{architecture}{side}Model{projection}"], **part}
    return {
        "architectures": [f"{architecture}Model"],
        "model_type": kind,
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.logit_scale,
        "vision_config": parts["Vision"],
        "text_config": parts["Text"],
    }


def _check_plain(image: VitConfig, config: ClipConfig) -> None:
    plain = image.pool == "cls" and image.pre_norm and not image.stem_widths
    if not plain or config.logit_bias is not None:
        raise CheckpointError(
            "transformers' CLIPModel has no place for mean pooling, a convolutional stem, "
            "a missing pre-norm or a bias"
        )


def _check_unscaled(tower: VitConfig | TextConfig) -> None:
    if tower.layer_scale is not None:
        raise CheckpointError("transformers' CLIPModel has no place for scales of blocks' branches")


def image_json(image: VitConfig, kind: str, config: ClipConfig) -> dict[str, Any]:
    """`vision_config` of the image tower of this model, of model type `kind`. Raises
    CheckpointError for one that transformers hasn't."""
    _check_plain(image, config)
    _check_unscaled(image)
    return {
        "model_type": f"{kind}_vision_model",
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "hidden_act": ACTIVATIONS[image.activation],
    } | sizes(image, config.embed_dim)


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """A config.json of transformers' CLIP."""
    named = "model_type" in content or "vision_config" in content
    return read_file(path) if named else None


def text_json(text: TextConfig, embed_dim: int) -> dict[str, Any]:
    """`text_config` of this tower, which is read at the highest token, or at its own end."""
    ends = {
        "bos_token_id": text.vocab_size - 2,
        "eos_token_id": text.vocab_size - 1,
        "pad_token_id": 0,
    }
    if text.end_id is not None:  # the tokenizer says the other two
        ends = {"bos_token_id": None, "eos_token_id": text.end_id, "pad_token_id": None}
    words = {"vocab_size": text.vocab_size, "max_position_embeddings": text.context_length}
    return words | ends | {"hidden_act": ACTIVATIONS[text.activation]} | sizes(text, embed_dim)


LAYOUT = Layout(
    name="transformers",
    image=IMAGE_MARKS,
    text=TEXT_MARKS,
    scale=("logit_scale",),
    table=table,
    config=read_config,
    config_file=CONFIG,
    model_types=MODEL_TYPES,
    tower_config=tower_config,
    text_config=alone_text,
    inputs=alone_inputs,
    describe=describe,
    describe_image=describe_image,
    weight_files=WEIGHT_FILES,
    exports=(
        Export(
            name="transformers",
            write=export,
            holds=lambda tower: isinstance(tower, VitConfig | TextConfig),
            alone=True,
        ),
    ),
    priority=-1,  # other families' folders have its names, and more
)
