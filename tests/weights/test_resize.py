"""A model for another picture size is the one that open_clip would make."""

import pytest
import torch
import torch.nn.functional as F

from diptych.checkpoints import load_model
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import ResNetConfig
from diptych.families.clip.layouts.open_clip import export
from diptych.families.timm import TimmConfig
from diptych.weights.native import save_model
from diptych.weights.resize import Grid, resize_grid, resize_positions, stretch_positions
from diptych.weights.state import State
from diptych.weights.tower import resize_tower
from tests.families.eva.small import MODELS


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
        torch.testing.assert_close(
            ours.encode_image(pixels), theirs.encode_image(pixels), atol=1e-5, rtol=1e-5
        )


def test_resnet_and_the_same_size(tmp_path, random_model, resnet, example):
    model = random_model(resnet)
    save_model(tmp_path / "ours", model)
    larger, meta = load_model(tmp_path / "ours", image_size=96)
    assert larger.encode_image(example(meta.config)[0]).shape == (3, 48)
    same, _ = load_model(tmp_path / "ours", image_size=64)
    assert torch.equal(
        same.state_dict()["image.pool.positions"], model.state_dict()["image.pool.positions"]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evas_tables_are_resized_as_its_loader_does(tmp_path, random_model, example, dtype):
    """Bicubic without anti-aliasing, in float32, the class token's row kept; rotary positions are
    computed."""
    model = random_model(MODELS["eva02-b"])
    save_model(tmp_path / "ours", model.to(dtype))
    old = model.image.state_dict()
    for image_size, patch_size in ((48, None), (None, 16), (80, 10), (16, 8)):
        loaded, meta = load_model(tmp_path / "ours", image_size=image_size, patch_size=patch_size)
        size, patch = image_size or 32, patch_size or 8
        assert (meta.config.image.image_size, meta.config.image.patch_size) == (size, patch)
        new, side = loaded.image.state_dict(), size // patch
        grid = old["positions"][1:].float().T.reshape(1, 32, 4, 4)
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False).to(dtype)
        assert torch.equal(
            new["positions"], torch.cat([old["positions"][:1], grid.reshape(32, -1).T]).float()
        )
        kernel = F.interpolate(
            old["patch.weight"].float(), size=(patch, patch), mode="bicubic", align_corners=False
        )
        assert torch.equal(new["patch.weight"], kernel.to(dtype).float())
        changed = {"positions"} | ({"patch.weight"} if patch_size and patch_size != 8 else set())
        assert all(torch.equal(new[name], old[name].float()) for name in new if name not in changed)
        assert loaded.encode_image(example(meta.config)[0]).isfinite().all()


def test_patches_of_a_vit(tmp_path, random_model, vit, example):
    save_model(tmp_path / "ours", random_model(vit))
    loaded, meta = load_model(tmp_path / "ours", patch_size=4)
    assert loaded.state_dict()["image.positions"].shape == (65, 128)
    assert loaded.encode_image(example(meta.config)[0]).shape == (3, 48)


def test_what_does_not_fit_is_named(tmp_path, random_model, vit):
    save_model(tmp_path / "ours", random_model(vit))
    with pytest.raises(ConfigError, match="33"):
        load_model(tmp_path / "ours", image_size=33)
    with pytest.raises(CheckpointError, match="image_size of timm's test_vit can't be changed"):
        resize_tower(State.of({}), TimmConfig(name="test_vit"), 64)
    anywhere = resize_tower(State.of({}), TimmConfig(name="resnet10t"), 64)[1]
    assert anywhere.image_size == 64
    with pytest.raises(CheckpointError, match="patch_size of a ResNetConfig can't be changed"):
        resize_tower(State.of({}), ResNetConfig(), patch_size=16)
    with pytest.raises(ConfigError, match="not a multiple of patch_size 5"):
        load_model(tmp_path / "ours", patch_size=5)
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


@pytest.mark.parametrize("name", ["positions", "patch.weight"])
@pytest.mark.parametrize("other", [torch.ones(()), torch.ones(3), torch.zeros(0)])
def test_what_is_no_table_and_no_kernel_is_named(name, other):
    grid = Grid(positions="positions", side=4, extra=1, patch_size=8)
    good = {"positions": torch.ones(10, 8), "patch.weight": torch.ones(8, 3, 4, 4)}
    with pytest.raises(CheckpointError, match=rf"{name} is \[.*can be resized"):
        resize_grid(State.of(good | {name: other}), grid)


def test_longer_texts_have_long_clips_positions():
    """As its authors' loop makes them of CLIP's 77."""
    old = torch.randn(77, 4)
    found = stretch_positions(old, 248)
    assert torch.equal(found[:20], old[:20])
    for row in range(20, 76):
        for quarter in range(4):
            between = old[row] * (1 - quarter / 4) + old[row + 1] * (quarter / 4)
            torch.testing.assert_close(found[20 + 4 * (row - 20) + quarter], between)
    step = (old[76] - old[75]) / 4
    torch.testing.assert_close(found[244:], torch.stack([old[76] + i * step for i in range(4)]))
    assert stretch_positions(old.half(), 100).dtype == torch.float16


def test_a_table_that_is_all_kept_cant_be_stretched():
    with pytest.raises(CheckpointError, match="20 rows, of which the first 20 are kept"):
        stretch_positions(torch.zeros(20, 4), 40)
