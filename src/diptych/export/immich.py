"""What Immich's machine-learning service reads beside the programs of a model.

    config.json                    open_clip's `text_cfg`: the context, how texts are cleaned
    visual/model.onnx              input `image`, float32 [batch, 3, size, size]
    visual/preprocess_cfg.json     open_clip's `preprocess_cfg`
    textual/model.onnx             input `text`, int32 [batch, context]
    textual/tokenizer.json, textual/tokenizer_config.json

As its `machine-learning/immich_ml/models/base.py` and `models/clip/{visual,textual}.py` read them
(github.com/immich-app/immich, November 2026).
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.export.programs import others_warnings
from diptych.inputs import Tokenizer, write_transformers_files

_CLEAN = {"spaces": {}, "canonical": {"tokenizer_kwargs": {"clean": "canonicalize"}}}


def check_immich(config: ClipConfig) -> None:
    """Raises CheckpointError for a model whose pictures or texts Immich would make otherwise."""
    if config.missing is not None:
        raise CheckpointError(
            f"Immich needs both towers, and this model has no {config.missing} tower; export it "
            "to onnx"
        )
    pictures, texts = config.preprocess, config.tokenizer
    reasons = {
        f"preprocess.resize is {pictures.resize!r}": pictures.resize not in ("shortest", "squash"),
        f"preprocess.crop_share is {pictures.crop_share:g}": pictures.crop_share != 1,
        f"tokenizer.clean is {texts.clean!r}": texts.clean not in _CLEAN,
        "tokenizer.blank_separator is set": texts.blank_separator,
        "tokenizer.class_last is set": texts.class_last,
        "its tokenizer is DeCLIP's": texts.kind == "declip",
        "its tokenizer is tiktoken's": texts.kind == "tiktoken",
    }
    if wrong := [reason for reason, is_so in reasons.items() if is_so]:
        raise CheckpointError(
            f"Immich would read pictures or texts otherwise than this model: {', '.join(wrong)}; "
            "export it to onnx"
        )


def write_beside(folder: Path, config: ClipConfig, tokenizer: Tokenizer) -> None:
    """All files but the programs."""
    text = {
        "context_length": config.text.context_length,
        "vocab_size": tokenizer.vocab_size,
        **_CLEAN[config.tokenizer.clean],
    }
    size, pictures = config.image.image_size, config.preprocess
    seen = {
        "size": [size, size],
        "mode": "RGB",
        "mean": list(pictures.mean),
        "std": list(pictures.std),
        "interpolation": pictures.interpolation,
        "resize_mode": pictures.resize,
        "fill_color": pictures.fill,
    }
    described = {
        "embed_dim": config.embed_dim,
        "vision_cfg": {"image_size": size},
        "text_cfg": text,
    }
    _write(folder / "config.json", described)
    _write(folder / "visual" / "preprocess_cfg.json", seen)
    write_tokenizer(folder / "textual", config, tokenizer)


def write_tokenizer(folder: Path, config: ClipConfig, tokenizer: Tokenizer) -> None:
    """`tokenizer.json`, which the library `tokenizers` reads alone, and `tokenizer_config.json`.
    Raises ConfigError where transformers, which makes them, isn't installed."""
    if config.tokenizer.kind == "huggingface":
        tokenizer.save(folder)
    else:
        try:
            from transformers import CLIPTokenizer
        except ImportError as error:
            raise ConfigError(
                "CLIP's tokenizer.json is written by transformers: pip install 'diptych[bridges]'"
            ) from error
        with tempfile.TemporaryDirectory() as room, others_warnings():
            write_transformers_files(room, config.text.context_length)
            CLIPTokenizer.from_pretrained(room).save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            "this model's tokenizer has no tokenizer.json, which Immich reads; export it to onnx"
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
