"""The folders of transformers' `SiglipModel`, which hold SigLIP 2 for pictures of one size, too,
and of `Siglip2Model`, which hold SigLIP 2 for pictures of their own aspect (NaFlex).

https://huggingface.co/docs/transformers/model_doc/siglip
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TokenizerConfig,
    TowerConfig,
)
from diptych.config.model import SIGLIP_BIAS
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError, misfit
from diptych.families.clip.layouts import transformers, transformers_names
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.clip.layouts import transformers_sections as sections
from diptych.families.siglip.config import (
    NaflexImageConfig,
    PooledImageConfig,
    SiglipImageConfig,
    SiglipTextConfig,
)
from diptych.families.siglip.layouts import naflex
from diptych.families.siglip.pretrained import PREPROCESS
from diptych.weights.kernels import READ_KERNEL
from diptych.weights.layout import Export, Inputs, Layout, WeightSource
from diptych.weights.mapping import TOKEN, Rule, Table, rows
from diptych.weights.read import read_json
from diptych.weights.state import State

_SQUARES, _NATIVE = "siglip", "siglip2"
"""Model types: for pictures of one size, of their own aspect."""
_ACTIVATION = "gelu_pytorch_tanh"
"""Where a section says none."""
_GEMMA = 256000
"""Entries in the vocabulary of SigLIP 2."""


def _vision(prefix: str) -> tuple[Rule, ...]:
    return (
        *rows(
            "image.",
            prefix,
            ("patch.weight", naflex.PATCH_WEIGHT, READ_KERNEL),
            ("patch.bias", "embeddings.patch_embedding.bias"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_post.*", "post_layernorm.*"),
            ("pool.query", "head.probe", TOKEN),
            ("pool.qkv.weight", "head.attention.in_proj_weight"),
            ("pool.qkv.bias", "head.attention.in_proj_bias"),
            ("pool.out.*", "head.attention.out_proj.*"),
            ("pool.norm.*", "head.layernorm.*"),
            ("pool.mlp.up.*", "head.mlp.fc1.*"),
            ("pool.mlp.down.*", "head.mlp.fc2.*"),
        ),
        *rows("image.blocks.#.", f"{prefix}encoder.layers.#.", *transformers_names.BLOCK),
    )


def _words(prefix: str) -> tuple[Rule, ...]:
    return (*transformers_names.text(prefix), Rule("text.projection.*", f"{prefix}head.*"))


TABLE = Table(
    rules=(
        Rule("logit_scale", "logit_scale"),
        Rule("logit_bias", "logit_bias"),
        *_vision("vision_model."),
        *_words("text_model."),
    ),
    ignored=transformers_names.IGNORED,
)
_NATIVE_TABLE = replace(TABLE, rules=(naflex.WRITTEN, *TABLE.rules))
"""How NaFlex is written."""
_ALONE = {
    "head.probe": Table(rules=_vision(""), ignored=("embeddings.position_ids",)),
    "head.weight": Table(rules=_words(""), ignored=("embeddings.position_ids",)),
}
"""`SiglipVisionModel` and `SiglipTextModel` as transformers 5 writes them, by the name that tells
each."""


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    return next((rules for mark, rules in _ALONE.items() if mark in names), TABLE)


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and what lies beside it. Raises CheckpointError without it: the tokenizer
    can't be told."""
    file = source.file.parent / transformers.CONFIG
    if not file.is_file():
        raise CheckpointError(f"{file.name} isn't beside the weights: it says how SigLIP is built")
    return read_file(file), {"config": file.name}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    file = source.file.parent / transformers.CONFIG
    if not file.is_file():
        raise CheckpointError(f"no {file.name} of SigLIP is beside the weights")
    return describe_image(read_json(file), file) or read_file(file).image, {"config": file.name}


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """A config.json of `SiglipModel`."""
    return read_file(path) if content.get("model_type") in (_SQUARES, _NATIVE) else None


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The image tower that a config.json of `SiglipVisionModel` or `Siglip2VisionModel`
    describes."""
    kinds = {f"{kind}_vision_model": kind for kind in (_SQUARES, _NATIVE)}
    kind = kinds.get(str(content.get("model_type")))
    return _image(sections.checked(content, path.name), kind) if kind else None


def alone_text(source: WeightSource, state: State) -> tuple[TextTowerConfig, dict[str, Any]]:
    """The text tower's, from the config.json of `SiglipTextModel`, `SiglipModel` or those of
    SigLIP 2."""
    file = source.file.parent / transformers.CONFIG
    content = read_json(file) if file.is_file() else {}
    if content.get("model_type") in ("siglip_text_model", "siglip2_text_model"):
        return _text(sections.checked(content, file.name)), {"config": file.name}
    return read_file(file).text, {"config": file.name}


def alone_inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """From preprocessor_config.json, or the tokenizer's files."""
    if isinstance(tower, SiglipTextConfig):
        return Inputs(tokenizer=_tokenizer(folder, tower))
    if isinstance(tower, PooledImageConfig):
        return Inputs(preprocess=_preprocess(folder, tower))
    return None


def read_file(file: Path) -> ClipConfig:
    """From the config.json `file` and what lies beside it. Raises CheckpointError for what has no
    place in a Diptych model."""
    content = read_json(file)
    if (kind := content.get("model_type")) not in (_SQUARES, _NATIVE):
        raise CheckpointError(f"{file.name} describes a {kind!r} model, not a {_SQUARES!r} one")
    try:
        image = _image(sections.section(content, "vision_config"), kind)
        text = _text(sections.section(content, "text_config"))
        config = ClipConfig(
            image=image,
            text=text,
            embed_dim=image.width,
            logit_bias=SIGLIP_BIAS,
            preprocess=_preprocess(file.parent, image),
            tokenizer=_tokenizer(file.parent, text),
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except (ConfigError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{file.name} doesn't describe a SigLIP model: {misfit(error)}"
        ) from error


def _tokenizer(folder: Path, text: SiglipTextConfig) -> TokenizerConfig:
    """SigLIP's texts lose case and punctuation, those of SigLIP 2 their case."""
    clean = "lower" if text.vocab_size == _GEMMA else "canonical"
    return TokenizerConfig(kind="huggingface", name=str(folder), clean=clean)


def _preprocess(folder: Path, image: PooledImageConfig) -> PreprocessConfig:
    if isinstance(image, NaflexImageConfig):
        return naflex.read_preprocess(folder, image)
    return inputs.read_preprocess(folder, image.image_size, PREPROCESS)


def _image(cfg: dict[str, Any], kind: str) -> PooledImageConfig:
    if not cfg.get("vision_use_head", True) or cfg.get("num_channels", 3) != 3:
        raise CheckpointError("an image tower of SigLIP's has an attention pool and three channels")
    if kind == _NATIVE:
        return naflex.read_image(cfg, _ACTIVATION)
    return SiglipImageConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 16),
        activation=sections.activation(cfg, _ACTIVATION),
        **sections.read_sizes(cfg, SiglipImageConfig()),
    )


def _text(cfg: dict[str, Any]) -> SiglipTextConfig:
    return SiglipTextConfig(
        context_length=cfg.get("max_position_embeddings", 64),
        vocab_size=cfg.get("vocab_size", 32000),
        activation=sections.activation(cfg, _ACTIVATION),
        **sections.read_sizes(cfg, SiglipTextConfig()),
    )


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `SiglipModel.from_pretrained`, or `Siglip2Model`; of a tower alone for
    `SiglipVisionModel`, `Siglip2VisionModel` or `SiglipTextModel`.

    Raises CheckpointError for what these can't hold.
    """
    written = _config_json(config)
    if config.missing:
        state = {name: state[name] for name in state if name != "logit_scale"}
    native = config.image.native
    weights = (_NATIVE_TABLE if native else TABLE).to_foreign(state)
    how = naflex.preprocess_json if native else _preprocess_json
    transformers.write(folder, config, written, weights, how)


def _preprocess_json(config: ClipConfig) -> dict[str, Any]:
    """preprocessor_config.json, for `SiglipImageProcessor`, which crops nothing."""
    said = inputs.preprocess_json(config) | {"processor_class": "SiglipProcessor"}
    if said["do_center_crop"]:
        return said
    del said["crop_size"], said["do_center_crop"]
    return said | {"image_processor_type": "SiglipImageProcessor"}


def _config_json(config: ClipConfig) -> dict[str, Any]:
    image, text = config.image, config.text
    fitting = (isinstance(image, PooledImageConfig), isinstance(text, SiglipTextConfig))
    if fitting != (image.present, text.present):
        raise CheckpointError(
            f"transformers' SiglipModel has no place for a {type(image).__name__} "
            f"and a {type(text).__name__}"
        )
    kind, name = (_NATIVE, "Siglip2") if image.native else (_SQUARES, "Siglip")
    parts: dict[str, dict[str, Any]] = {}
    if isinstance(image, NaflexImageConfig):
        parts["Vision"] = naflex.image_json(image, config.embed_dim)
    elif isinstance(image, PooledImageConfig):
        parts["Vision"] = _image_json(image, config.embed_dim)
    if isinstance(text, SiglipTextConfig):
        parts["Text"] = _text_json(text, kind, config.embed_dim)
    if config.missing:
        [(side, part)] = parts.items()
        return {"architectures": [f"{name}{side}Model"], **part}
    if config.logit_bias is None:
        raise CheckpointError("transformers' SiglipModel has a logit bias")
    return {
        "architectures": [f"{name}Model"],
        "model_type": kind,
        "vision_config": parts["Vision"],
        "text_config": parts["Text"],
    }


def _image_json(image: PooledImageConfig, embed_dim: int) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "hidden_act": sections.ACTIVATIONS[image.activation],
    } | sections.sizes(image, embed_dim)


def _text_json(text: SiglipTextConfig, kind: str, embed_dim: int) -> dict[str, Any]:
    if not text.projection:
        raise CheckpointError("transformers' SiglipModel has a text projection")
    return {
        "model_type": f"{kind}_text_model",
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "hidden_act": sections.ACTIVATIONS[text.activation],
        "projection_size": embed_dim,
    } | sections.sizes(text, embed_dim)


SIGLIP_TRANSFORMERS = Layout(
    name="siglip-transformers",
    image=("vision_model.head.probe", "head.probe"),
    text=("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    config_file=transformers.CONFIG,
    model_types=(_SQUARES, _NATIVE),
    tower_config=tower_config,
    text_config=alone_text,
    inputs=alone_inputs,
    describe=describe,
    describe_image=describe_image,
    weight_files=transformers.WEIGHT_FILES,
    exports=(
        Export(
            name="transformers",
            write=export,
            holds=lambda tower: isinstance(tower, PooledImageConfig | SiglipTextConfig),
            alone=True,
        ),
    ),
    priority=1,  # its folders have EVA's names, and more
)
