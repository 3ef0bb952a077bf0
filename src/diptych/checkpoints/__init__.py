"""Checkpoints in whatever layout: loading, converting, training that starts from them."""

from diptych.checkpoints.convert import convert
from diptych.checkpoints.detect import detect
from diptych.checkpoints.load import Loaded, LoadedTower, load_image_tower, load_model
from diptych.checkpoints.locate import fetch
from diptych.checkpoints.start import start_model, start_tower, with_context

__all__ = [
    "Loaded",
    "LoadedTower",
    "convert",
    "detect",
    "fetch",
    "load_image_tower",
    "load_model",
    "start_model",
    "start_tower",
    "with_context",
]
