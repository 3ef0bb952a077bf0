"""Weights on disk: our format, everybody else's, and the way between them."""

from diptych.checkpoints.convert import convert
from diptych.checkpoints.detect import detect
from diptych.checkpoints.fetch import fetch
from diptych.checkpoints.load import Loaded, load_model
from diptych.checkpoints.native import Meta, save_model
from diptych.checkpoints.start import start_tower
from diptych.checkpoints.towers import LoadedTower, load_image_tower

__all__ = [
    "Loaded",
    "LoadedTower",
    "Meta",
    "convert",
    "detect",
    "fetch",
    "load_image_tower",
    "load_model",
    "save_model",
    "start_tower",
]
