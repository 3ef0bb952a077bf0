"""The folder of transformers' `ChineseCLIPModel`: CLIP's image tower, and a BERT that is read at
its first token (Yang et al. 2022, arXiv:2211.01335).

https://huggingface.co/docs/transformers/model_doc/chinese_clip
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, TextTowerConfig
from diptych.config.ranges import Context, Layers, Ranged, Share, Width
from diptych.config.serialize import from_dict
from diptych.errors import CheckpointError
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts import transformers, transformers_names
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.pretrained_chinese import CONTEXT, PREPROCESS
from diptych.weights.layout import Export, Layout, WeightSource
from diptych.weights.mapping import SCALAR, Rule, Table
from diptych.weights.read import read_json
from diptych.weights.state import State

MODEL = "chinese_clip"
TABLE = Table(
    rules=(
        Rule("logit_scale", "logit_scale", SCALAR),
        Rule("image.projection.weight", "visual_projection.weight"),
        *transformers_names.vision("vision_model."),
        Rule("text.projection.weight", "text_projection.weight"),
        Rule("text.trunk.*", "text_model.*"),
    ),
    ignored=transformers_names.IGNORED,
)


@dataclass(frozen=True, kw_only=True)
class BertSizes(Ranged):
    """What `text_config` says of every BERT. What it leaves out is transformers' default, which is
    BERT's own."""

    vocab_size: Width = 30522
    hidden_size: Width = 768
    num_hidden_layers: Layers = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    max_position_embeddings: Context = 512
    type_vocab_size: Width = 2
    layer_norm_eps: Share = 1e-12


_SIZES = tuple(field.name for field in fields(BertSizes))
_OTHERWISE = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
"""What is said of a BERT that isn't as most are."""


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and what lies beside it. Raises CheckpointError without it: neither heads
    nor the tokenizer can be told."""
    file = source.file.parent / transformers.CONFIG
    if not file.is_file():
        raise CheckpointError(
            f"{file.name} isn't beside the weights: it says how Chinese-CLIP is built; copy it "
            "from where they come from"
        )
    return read_file(file), {"config": file.name}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    config, notes = read_config(source, state)
    return config.image, notes


def text_config(source: WeightSource, state: State) -> tuple[TextTowerConfig, dict[str, Any]]:
    """The text tower's, as `read_config`."""
    config, notes = read_config(source, state)
    return config.text, notes


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """A config.json of `ChineseCLIPModel`."""
    return read_file(path) if content.get("model_type") == MODEL else None


def read_file(file: Path) -> ClipConfig:
    """From the config.json `file` and what lies beside it. Raises CheckpointError for what has no
    place in a Diptych model."""
    content = read_json(file)
    if (kind := content.get("model_type")) != MODEL:
        raise CheckpointError(f"{file.name} describes a {kind!r} model, not a {MODEL!r} one")
    return transformers.model_config(file, content, transformers.image_config, _text, PREPROCESS)


def _text(cfg: dict[str, Any]) -> HuggingFaceTextConfig:
    """Published sections don't say the context, which was shorter in training than the table of
    positions is."""
    sizes = from_dict(BertSizes, {name: cfg[name] for name in _SIZES if name in cfg})
    said = {name: cfg[name] for name, most in _OTHERWISE.items() if cfg.get(name, most) != most}
    return HuggingFaceTextConfig(
        model_type="bert",
        options=asdict(sizes) | said,
        context_length=cfg.get("context_length", min(CONTEXT, sizes.max_position_embeddings)),
        pool="cls",
        pad_id=cfg.get("pad_token_id") or 0,
    )


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `ChineseCLIPModel.from_pretrained` and `ChineseCLIPProcessor.from_pretrained`.
    Raises CheckpointError for what these can't hold."""
    image, text = config.image, config.text
    if not isinstance(image, VitConfig) or not isinstance(text, HuggingFaceTextConfig):
        raise CheckpointError(
            f"transformers' ChineseCLIPModel has no place for a {type(image).__name__} "
            f"and a {type(text).__name__}"
        )
    written = {
        "architectures": ["ChineseCLIPModel"],
        "model_type": MODEL,
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.logit_scale,
        "vision_config": transformers.image_json(image, MODEL, config),
        "text_config": _text_json(text),
    }
    transformers.write(folder, config, written, TABLE.to_foreign(state), _preprocess_json)


def _text_json(text: HuggingFaceTextConfig) -> dict[str, Any]:
    if (text.model_type, text.pool, text.projection) != ("bert", "cls", "linear"):
        raise CheckpointError(
            "transformers' ChineseCLIPModel has a bert as its text tower, with pool 'cls' and a "
            f"'linear' projection, not a {text.model_type} with {text.pool!r} and "
            f"{text.projection!r}"
        )
    if other := sorted(set(text.options) - {*_SIZES, *_OTHERWISE}):
        raise CheckpointError(
            f"transformers' ChineseCLIPModel has no place for a bert's {', '.join(other)}"
        )
    named = {"model_type": f"{MODEL}_text_model", "pad_token_id": text.pad_id}
    # transformers doesn't read it; we do.
    context = {} if text.context_length == CONTEXT else {"context_length": text.context_length}
    return named | asdict(BertSizes()) | text.options | context


def _preprocess_json(config: ClipConfig) -> dict[str, Any]:
    """preprocessor_config.json, for `ChineseCLIPImageProcessor`."""
    named = {
        "processor_class": "ChineseCLIPProcessor",
        "image_processor_type": "ChineseCLIPImageProcessor",
    }
    return inputs.preprocess_json(config) | named


CHINESE_CLIP = Layout(
    name="chinese-clip",
    image=transformers_names.IMAGE_MARKS[:1],
    text=("text_model.embeddings.word_embeddings.weight",),
    scale=("logit_scale",),
    table=lambda names: TABLE,
    config=read_config,
    config_file=transformers.CONFIG,
    tower_config=tower_config,
    text_config=text_config,
    describe=describe,
    weight_files=transformers.WEIGHT_FILES,
    exports=(
        Export(
            name="transformers",
            write=export,
            holds=lambda tower: isinstance(tower, VitConfig),
            texts=lambda tower: isinstance(tower, HuggingFaceTextConfig),
        ),
    ),
    priority=-2,  # its image tower is CLIP's
)


def layouts() -> tuple[Layout, ...]:
    """It alone: open_clip's layout is shared (see `layouts`)."""
    return (CHINESE_CLIP,)
