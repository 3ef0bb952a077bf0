"""A tiny random model and real small pictures, for tests that need both."""

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diptych import models, pretrained
from diptych.config import ClipConfig
from diptych.encoder import Encoder
from diptych.families.clip import TextConfig, VitConfig
from diptych.weights.native import save_model

COLOURS = {
    "blue": (20, 40, 220),
    "green": (30, 180, 60),
    "red": (220, 30, 30),
    "yellow": (240, 220, 40),
}


@functools.cache
def model(seed: int = 0) -> models.Clip:
    """The published `tiny`, random; the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.build(pretrained.get("tiny")).eval()


@functools.cache
def encoder(seed: int = 0) -> Encoder:
    return Encoder(model(seed), name=f"tiny {seed}")


def save(folder: Path, seed: int = 0) -> Path:
    """A native checkpoint of it."""
    return save_model(folder, model(seed))


def picture(colour: str, seed: int = 0) -> Image.Image:
    """40 x 30 pixels of a colour with a random pattern."""
    noise = np.random.default_rng(seed).integers(-20, 20, (30, 40, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, each: int = 3) -> list[Path]:
    """A folder per colour, PNG files in it; the paths in sorted order."""
    paths = []
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            paths.append(folder / colour / f"{number}.png")
            picture(colour, number).save(paths[-1])
    return paths


def small_vit(folder: Path) -> Path:
    """A native checkpoint of a CLIP ViT of two small layers, which every layout can hold."""
    config = ClipConfig(
        image=VitConfig(image_size=32, patch_size=16, width=64, layers=2, heads=1, mlp_width=128),
        text=TextConfig(width=64, layers=2, heads=1, mlp_width=128),
        embed_dim=16,
    )
    return save_model(folder, models.build(config))
