"""A model for another picture size is the one that open_clip would make."""

import pytest
import torch

from diptych.checkpoints import load_model, save_model
from diptych.checkpoints.formats.open_clip import export
from diptych.checkpoints.state import State
from diptych.checkpoints.surgery import resize_positions
from diptych.config import TimmConfig
from diptych.errors import CheckpointError, ConfigError


def test_resized_like_open_clip(tmp_path, random_model, vit, example):
    open_clip = pytest.importorskip("open_clip")
    model = random_model(vit)
    export(tmp_path / "theirs", vit, model.state_dict())
    save_model(tmp_path / "ours", model)
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'theirs'}", force_image_size=56).eval()
    ours, meta = load_model(tmp_path / "ours", image_size=56)
    assert meta.config.image.image_size == ours.config.image.image_size == 56
    pixels = example(meta.config)[0]
    with torch.inference_mode():
        torch.testing.assert_close(ours.encode_image(pixels), theirs.encode_image(pixels), atol=1e-5, rtol=1e-5)


def test_resnet_and_the_same_size(tmp_path, random_model, resnet, example):
    model = random_model(resnet)
    save_model(tmp_path / "ours", model)
    larger, meta = load_model(tmp_path / "ours", image_size=96)
    assert larger.encode_image(example(meta.config)[0]).shape == (3, 48)
    same, _ = load_model(tmp_path / "ours", image_size=64)
    assert torch.equal(same.state_dict()["image.pool.positions"], model.state_dict()["image.pool.positions"])


def test_what_does_not_fit_is_named(tmp_path, random_model, vit):
    from dataclasses import replace

    from diptych.checkpoints.surgery import resize

    save_model(tmp_path / "ours", random_model(vit))
    with pytest.raises(ConfigError, match="33"):
        load_model(tmp_path / "ours", image_size=33)
    with pytest.raises(CheckpointError, match="timm"):
        resize(State.of({}), replace(vit, image=TimmConfig(name="resnet10t")), 64)
    with pytest.raises(CheckpointError, match="square"):
        resize_positions(torch.zeros(11, 4), side=3)


def test_a_smooth_table_stays_itself():
    ramp = torch.linspace(0, 1, 8)[:, None].expand(8, 8).reshape(64, 1)
    table = torch.cat([torch.full((1, 1), 9.0), ramp])
    larger = resize_positions(table, 16)
    assert larger[0].item() == 9.0
    rows = larger[1:].reshape(16, 16)
    assert torch.allclose(rows, rows[:, :1].expand(16, 16))
    assert (rows.diff(dim=0) > -1e-6).all()
