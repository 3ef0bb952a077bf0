"""Tensors on their way into a model: checked, cast where needed, mapped from the file where not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych import models
from diptych.checkpoints import load_model
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import open_clip
from diptych.families.timm import TimmConfig
from diptych.weights import assemble as assembling
from diptych.weights.assemble import assemble
from diptych.weights.native import save_model
from diptych.weights.state import State

MAPS = Path("/proc/self/maps")


def file_behind(tensor):
    """The file that a tensor's memory is mapped from, as Linux tells it; empty if there is none."""
    for line in MAPS.read_text().splitlines():
        start, stop = (int(place, 16) for place in line.split(maxsplit=1)[0].split("-"))
        if start <= tensor.data_ptr() < stop:
            return line.split(maxsplit=5)[5] if line.count("/") else ""
    raise AssertionError("memory that belongs to nobody")


@pytest.fixture
def files(tmp_path, random_model, vit):
    """A model large enough to be mapped, in a file of each kind."""
    config = replace(vit, image=replace(vit.image, width=512, mlp_width=1024, heads=8))
    model = random_model(config)
    save_model(tmp_path / "native", model)
    torch.save(open_clip.export_table(config).to_foreign(model.state_dict()), tmp_path / "w.pt")
    return {"safetensors": tmp_path / "native", "pt": tmp_path / "w.pt"}, config


@pytest.mark.skipif(not MAPS.exists(), reason="mappings are read as Linux tells them")
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_matrix_that_needs_no_cast_stays_mapped(files, kind):
    paths, config = files
    loaded, _ = load_model(paths[kind], config=config)
    up = loaded.image.blocks[1].mlp.up
    assert file_behind(up.weight).endswith(("model.safetensors", "w.pt"))
    assert not file_behind(up.bias)
    half, _ = load_model(paths[kind], config=config, dtype=torch.float16)
    assert not file_behind(half.image.blocks[1].mlp.up.weight)
    before = up.weight.detach().clone()
    with torch.no_grad():
        up.weight.zero_()  # training doesn't change the file
    assert torch.equal(
        load_model(paths[kind], config=config).model.image.blocks[1].mlp.up.weight, before
    )


def test_numbers_too_large_for_half_precision(tmp_path, random_model, vit):
    model = random_model(vit)
    with torch.no_grad():
        model.text.blocks[1].mlp.up.bias[3] = -70000.0
    save_model(tmp_path / "out", model)
    load_model(tmp_path / "out", dtype=torch.bfloat16)
    with pytest.raises(
        CheckpointError, match=r"text.blocks.1.mlp.up.bias holds values too large for torch.float16"
    ):
        load_model(tmp_path / "out", dtype=torch.float16)


def test_the_scale_is_exact_whatever_the_towers_are(tmp_path, random_model, vit):
    model = random_model(replace(vit, logit_bias=-10.0))
    save_model(tmp_path / "out", model)
    loaded, _ = load_model(tmp_path / "out", dtype=torch.float16)
    assert torch.equal(loaded.logit_scale, model.logit_scale)
    assert torch.equal(loaded.logit_bias, model.logit_bias)


def test_a_factor_in_place_of_its_logarithm_is_said(tmp_path, random_model, vit):
    model = random_model(vit)
    with torch.no_grad():
        model.logit_scale.fill_(100)
    save_model(tmp_path / "out", model)
    with pytest.raises(CheckpointError, match=r"logit_scale is 100, .* store its logarithm"):
        load_model(tmp_path / "out")


def test_layouts_of_memory_are_the_towers_own(tmp_path, random_model, resnet):
    model = random_model(resnet)
    save_model(tmp_path / "out", model)
    for dtype in (torch.float32, torch.bfloat16):
        loaded, _ = load_model(tmp_path / "out", dtype=dtype)
        assert [p.stride() for p in loaded.parameters()] == [p.stride() for p in model.parameters()]
    assert loaded.image.stem[0].norm.num_batches_tracked.dtype == torch.long


def test_towers_of_other_libraries_in_half_precision(tmp_path, vit):
    config = replace(vit, image=TimmConfig(name="resnet10t", image_size=64))
    model = models.build(config)
    save_model(tmp_path / "out", model)
    loaded, _ = load_model(tmp_path / "out", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.image.parameters()} == {torch.bfloat16}
    expected = model.image.state_dict()
    assert all(
        torch.equal(t, expected[n].to(t.dtype)) for n, t in loaded.image.state_dict().items()
    )


def test_a_state_is_used_up(random_model, vit):
    model = random_model(vit)
    state = State.of(model.state_dict())
    built = assemble(state, vit)
    assert not state
    assert all(
        torch.equal(tensor, model.state_dict()[name]) for name, tensor in built.state_dict().items()
    )


@pytest.mark.parametrize(
    ("progress", "size", "shown"), [(True, 0, True), (True, 1 << 30, False), (False, 0, False)]
)
def test_a_bar_for_large_weights(
    tmp_path, random_model, vit, monkeypatch, capfd, progress, size, shown
):
    save_model(tmp_path / "out", random_model(vit))
    monkeypatch.setattr(assembling, "SHOWN", size)
    load_model(tmp_path / "out", progress=progress)
    out, err = capfd.readouterr()
    assert ("weights" in err) == shown
    assert not out
