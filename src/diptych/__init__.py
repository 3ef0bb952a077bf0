"""Diptych: train, evaluate, convert and use contrastive image-text models (CLIP).

    import diptych

    clip = diptych.load("runs/demo")
    scores = clip.classify("cat.jpg", ["a cat", "a dog"])

Names are resolved on first use, so that `import diptych` doesn't import torch.
"""

import importlib
from typing import TYPE_CHECKING

from diptych.version import __version__ as __version__

if TYPE_CHECKING:
    from diptych import recipes
    from diptych.checkpoints import convert, load_image_tower
    from diptych.config import ClipConfig, Run
    from diptych.diagnosis import diagnose
    from diptych.encoder import Encoder, load, reinforce
    from diptych.errors import DiptychError
    from diptych.evaluation import evaluate
    from diptych.search import Index
    from diptych.training import fit

__all__ = [
    "ClipConfig",
    "DiptychError",
    "Encoder",
    "Index",
    "Run",
    "convert",
    "diagnose",
    "evaluate",
    "fit",
    "load",
    "load_image_tower",
    "recipes",
    "reinforce",
]

_HOME = {
    "ClipConfig": "config",
    "DiptychError": "errors",
    "Encoder": "encoder",
    "Index": "search",
    "Run": "config",
    "convert": "checkpoints",
    "diagnose": "diagnosis",
    "evaluate": "evaluation",
    "fit": "training",
    "load": "encoder",
    "load_image_tower": "checkpoints",
    "reinforce": "encoder",
}


def __getattr__(name: str):
    if name == "recipes":
        return importlib.import_module("diptych.recipes")
    if name not in _HOME:
        raise AttributeError(f"module 'diptych' has no attribute {name!r}")
    return getattr(importlib.import_module(f"diptych.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
