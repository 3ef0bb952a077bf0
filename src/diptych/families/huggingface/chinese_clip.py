"""The folder of transformers' `ChineseCLIPModel`: CLIP's image tower, and a BERT that is read at
its first token (Yang et al. 2022, arXiv:2211.01335).

https://huggingface.co/docs/transformers/model_doc/chinese_clip
"""

from typing import Any

from diptych.config import TowerConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import transformers_names
from diptych.families.clip.layouts.transformers_sections import read_id
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.folder import ModelFolder
from diptych.families.huggingface.pretrained_chinese import CONTEXT, PREPROCESS
from diptych.families.huggingface.sections import BertSizes, options_json, read_options
from diptych.weights.mapping import SCALAR, Rule, Table

_MODEL = "ChineseCLIPModel"
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


def _read_text(cfg: dict[str, Any]) -> HuggingFaceTextConfig:
    """Published sections don't say the context, which was shorter in training than the table of
    positions is."""
    options = read_options(BertSizes, cfg)
    places = options["max_position_embeddings"]
    return HuggingFaceTextConfig(
        model_type="bert",
        options=options,
        context_length=cfg.get("context_length", min(CONTEXT, places)),
        pool="cls",
        pad_id=read_id(cfg, "pad_token_id", 0, options["vocab_size"]),
    )


def _write_text(text: HuggingFaceTextConfig) -> dict[str, Any]:
    if (text.model_type, text.pool, text.projection) != ("bert", "cls", "linear"):
        raise CheckpointError(
            f"transformers' {_MODEL} has a bert as its text tower, with pool 'cls' and a "
            f"'linear' projection, not a {text.model_type} with {text.pool!r} and "
            f"{text.projection!r}"
        )
    named = {"model_type": "chinese_clip_text_model", "pad_token_id": text.pad_id}
    # transformers doesn't read it; we do.
    context = {} if text.context_length == CONTEXT else {"context_length": text.context_length}
    return named | options_json(BertSizes, text, _MODEL) | context


def _is_text(tower: TowerConfig) -> bool:
    return isinstance(tower, HuggingFaceTextConfig) and tower.token_width is None


FOLDER = ModelFolder(
    called="Chinese-CLIP",
    model_type="chinese_clip",
    architecture=_MODEL,
    table=TABLE,
    read_text=_read_text,
    write_text=_write_text,
    processor={
        "processor_class": "ChineseCLIPProcessor",
        "image_processor_type": "ChineseCLIPImageProcessor",
    },
    preprocess=PREPROCESS,
)
CHINESE_CLIP = FOLDER.layout(
    "chinese-clip",
    text=("text_model.embeddings.word_embeddings.weight",),
    table=lambda names: TABLE,
    texts=_is_text,
)
