"""OpenAI's and EVA-01's `clip` package: see `diptych.compat.clip.clip`."""

from diptych.compat.clip import model, simple_tokenizer
from diptych.compat.clip.clip import (
    _MODELS,  # pyright: ignore[reportPrivateUsage]: scripts read it
    _download,  # pyright: ignore[reportPrivateUsage]
    available_models,
    build_eva_model_and_transforms,
    build_model,
    create_model_and_transforms,
    load,
    tokenize,
)

__all__ = [
    "_MODELS",
    "_download",
    "available_models",
    "build_eva_model_and_transforms",
    "build_model",
    "create_model_and_transforms",
    "load",
    "model",
    "simple_tokenizer",
    "tokenize",
]
