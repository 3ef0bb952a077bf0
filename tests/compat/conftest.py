"""Small EVA models as their publishers would have laid them out."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import diptych
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.eva.layouts import eva
from diptych.models import Clip, build
from diptych.weights.native import save_model
from tests.models.peers import shake

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
GATED = {"rope": True, "pt_hw_seq_len": 16, "intp_freq": True, "naiveswiglu": True, "subln": True}
SMALL = {
    "image_size": 56,
    "layers": 2,
    "width": 32,
    "head_width": 16,
    "patch_size": 14,
    "drop_path_rate": 0.0,
}


class Published(NamedTuple):
    """A model with its file, its JSON and a picture."""

    model: Clip
    weights: Path
    config: Path
    picture: Path


def publish(folder: Path, seed: int = 0) -> Published:
    torch.manual_seed(seed)
    vision = {**SMALL, **GATED, "mlp_ratio": 2.6667, "eva_model_name": "eva-clip-b-16-X"}
    content = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}
    model = build(from_json({"model_cfg": content})).eval()
    shake(model.image)
    files = Published(model, folder / "weights.pt", folder / "config.json", folder / "CLIP.png")
    eva.export_file(files.weights, model.config, model.state_dict())
    files.config.write_text(json.dumps(content))
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(noise).save(files.picture)
    return files


@pytest.fixture
def published(tmp_path) -> Published:
    return publish(tmp_path)


@pytest.fixture
def exported(published, tmp_path) -> Path:
    """The folder that `diptych convert --to transformers` writes."""
    save_model(tmp_path / "native", published.model)
    return diptych.convert(tmp_path / "native", "transformers", tmp_path / "exported")
