"""The folders of transformers' `AltCLIPModel` and, of the text tower alone, `AltCLIPTextModel`:
CLIP's image tower, and an XLM-RoBERTa that learned to give the vectors of CLIP's text tower (Chen
et al. 2022, arXiv:2211.06679).

https://huggingface.co/docs/transformers/model_doc/altclip
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, TowerConfig
from diptych.config.ranges import Context, Count, Layers, Share, Width
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import transformers, transformers_names
from diptych.families.clip.layouts.transformers_sections import read_id
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.folder import ModelFolder
from diptych.families.huggingface.pretrained_altclip import CONTEXT
from diptych.families.huggingface.sections import BertSizes, options_json, read_options
from diptych.weights.layout import Export
from diptych.weights.mapping import SCALAR, Rule, Table, rows

_MODEL, _TEXT_MODEL, _TYPE = "AltCLIPModel", "AltCLIPTextModel", "altclip"
_OLD, _NEW = "layer", "layers"
"""What stands before blocks' numbers. Published files have the old word in texts and the new one in
pictures; transformers 5 writes the old one in both, and of a text tower alone it reads but the new
one."""
_IGNORED = ("*.embeddings.position_ids", "*roberta.pooler.*")
"""Stored ranges; the trunk's own pooling layer, which the authors' code has and doesn't read."""


def _text(prefix: str, *words: str) -> tuple[Rule, ...]:
    """`words`: those before blocks' numbers, the first of which is written."""
    blocks = (("trunk.encoder.layer.*", f"roberta.encoder.{word}.*") for word in words)
    return rows(
        "text.",
        prefix,
        ("transform.norm.*", "pre_LN.*"),
        ("transform.linear.*", "transformation.*"),
        *blocks,
        ("trunk.*", "roberta.*"),
    )


TABLE = Table(
    rules=(
        Rule("logit_scale", "logit_scale", SCALAR),
        Rule("image.projection.weight", "visual_projection.weight"),
        *transformers_names.vision("vision_model.", _NEW),
        *transformers_names.vision("vision_model.", _OLD),
        Rule("text.projection.weight", "text_projection.weight"),
        *_text("text_model.", _OLD, _NEW),
    ),
    ignored=_IGNORED,
)
_ALONE = Table(rules=_text("", _NEW, _OLD), ignored=_IGNORED)
_MARKS = ("text_model.pre_LN.weight", "pre_LN.weight")
"""Of a whole model, and of its text tower alone."""


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    return _ALONE if _MARKS[1] in names else TABLE


@dataclass(frozen=True, kw_only=True)
class RobertaSizes(BertSizes):
    """What a section leaves out is that of XLM-RoBERTa's large model."""

    vocab_size: Width = 250002
    hidden_size: Width = 1024
    num_hidden_layers: Layers = 24
    num_attention_heads: Width = 16
    intermediate_size: Width = 4096
    max_position_embeddings: Context = 514
    type_vocab_size: Width = 1
    layer_norm_eps: Share = 1e-5
    pad_token_id: Count = 1
    """Positions of texts are counted from behind it."""


def _read_text(cfg: dict[str, Any]) -> HuggingFaceTextConfig:
    vocab_size = cfg.get("vocab_size", RobertaSizes.vocab_size)
    pad = read_id(cfg, "pad_token_id", RobertaSizes.pad_token_id, vocab_size)
    # Left out, it is 0 here and 0.1 in XLM-RoBERTa.
    options = read_options(RobertaSizes, {"attention_probs_dropout_prob": 0} | cfg)
    places = max(1, options["max_position_embeddings"] - pad - 1)
    return HuggingFaceTextConfig(
        model_type="xlm-roberta",
        options=options,
        context_length=cfg.get("context_length", min(CONTEXT, places)),
        pool="cls",
        pad_id=pad,
        token_width=cfg.get("project_dim", 768),
    )


def _write_text(text: HuggingFaceTextConfig) -> dict[str, Any]:
    if text.projection != "linear":
        raise CheckpointError(
            f"transformers' {_MODEL} has a 'linear' projection of texts, not {text.projection!r}"
        )
    return _tower_json(text, _MODEL)


def _tower_json(text: HuggingFaceTextConfig, owner: str) -> dict[str, Any]:
    if (text.model_type, text.pool) != ("xlm-roberta", "cls"):
        raise CheckpointError(
            f"transformers' {owner} has an xlm-roberta as its text tower, with pool 'cls', not a "
            f"{text.model_type} with {text.pool!r}"
        )
    named = {"model_type": f"{_TYPE}_text_model", "project_dim": text.token_width}
    # transformers doesn't read it; we do.
    context = {} if text.context_length == CONTEXT else {"context_length": text.context_length}
    return named | options_json(RobertaSizes, text, owner) | context


def export_text(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files of a text tower alone, for `AltCLIPTextModel.from_pretrained`. Raises
    CheckpointError for what that can't hold."""
    text = config.text
    assert isinstance(text, HuggingFaceTextConfig)
    if text.projection != "none":
        raise CheckpointError(
            f"transformers' {_TEXT_MODEL} has no place for the {text.projection!r} projection "
            "behind it"
        )
    written = {"architectures": [_TEXT_MODEL]} | _tower_json(text, _TEXT_MODEL)
    weights = {name: tensor for name, tensor in state.items() if name != "logit_scale"}
    transformers.write(folder, config, written, _ALONE.to_foreign(weights))


def _is_text(tower: TowerConfig) -> bool:
    return isinstance(tower, HuggingFaceTextConfig) and tower.token_width is not None


FOLDER = ModelFolder(
    called="AltCLIP",
    model_type=_TYPE,
    architecture=_MODEL,
    table=TABLE,
    read_text=_read_text,
    write_text=_write_text,
    processor={"processor_class": "AltCLIPProcessor"},
    embed_dim=768,
)
_WHOLE = FOLDER.layout("altclip", text=_MARKS, table=table, texts=_is_text)
_TEXT_ALONE = Export(name="transformers", write=export_text, holds=_is_text, alone=True)
ALTCLIP = replace(_WHOLE, inputs=FOLDER.inputs, exports=(*_WHOLE.exports, _TEXT_ALONE))
