"""What is saved is what is loaded; what is damaged is said so; nothing is ever half there."""

import json
import resource
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from diptych import models, pretrained
from diptych.checkpoints import detect, load_model
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, DamageWarning
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.timm import TimmConfig
from diptych.weights import native
from diptych.weights.native import save_model
from tests.forked import Script


def test_round_trip_is_bit_equal(tmp_path, random_model, vit, resnet):
    for i, config in enumerate(
        (vit, resnet, replace(vit, logit_bias=-10.0), pretrained.get("tiny"))
    ):
        model = random_model(config)
        save_model(tmp_path / f"{i}", model, provenance={"run": "test"})
        loaded, meta = load_model(tmp_path / f"{i}")
        assert meta.config == loaded.config == config
        assert meta.provenance["run"] == "test"
        assert meta.provenance["diptych"]
        state, again = model.state_dict(), loaded.state_dict()
        assert state.keys() == again.keys()
        assert all(torch.equal(state[name], again[name]) for name in state)
        assert not loaded.training
        assert all(p.requires_grad for p in loaded.parameters())


class Compiled(nn.Module):
    """A module as torch.compile wraps it."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module


def test_a_compiled_module_has_its_names(tmp_path, random_model, vit):
    model = random_model(vit)
    expected = model.state_dict()
    model.image.blocks[0] = Compiled(model.image.blocks[0])
    loaded, _ = load_model(save_model(tmp_path / "out", model))
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[name]) for name, t in loaded.state_dict().items())


ALTERED = {
    "text.projection.weight is missing": lambda model: weight_norm(model.text.projection),
    "projection.weight is missing": lambda model: setattr(model.image, "projection", nn.Identity()),
    "seen are not in": lambda model: model.image.register_buffer("seen", torch.ones(1)),
    r"logit_scale is \[\] where": lambda model: setattr(
        model, "logit_scale", nn.Parameter(torch.tensor(1.0))
    ),
}


@pytest.mark.parametrize("said", ALTERED)
def test_what_could_not_be_read_again_is_not_written(tmp_path, random_model, vit, said):
    model = random_model(vit)
    ALTERED[said](model)
    with pytest.raises(CheckpointError, match=f"could not be read again: .*{said}") as caught:
        save_model(tmp_path / "out", model)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_towers_of_other_libraries(tmp_path, vit):
    """Tables that they compute when they are built, and don't store, are there after loading."""
    text = HuggingFaceTextConfig(
        model_type="bert",
        context_length=8,
        options={
            "vocab_size": 60,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    )
    config = ClipConfig(image=TimmConfig(name="resnet10t", image_size=64), text=text, embed_dim=48)
    model = models.build(config).eval()
    save_model(tmp_path / "out", model)
    loaded, _ = load_model(tmp_path / "out")
    pixels, ids = torch.randn(2, 3, 64, 64), torch.randint(1, 60, (2, 8))
    with torch.inference_mode():
        for wanted, actual in zip(model(pixels, ids), loaded(pixels, ids), strict=True):
            assert torch.equal(wanted, actual)


def test_parameters_that_a_tower_shares_stay_shared(tmp_path):
    sizes = {
        "vocab_size": 60,
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 1,
        "num_heads": 2,
    }
    text = HuggingFaceTextConfig(model_type="t5", context_length=8, options=sizes)
    config = ClipConfig(image=TimmConfig(name="resnet10t", image_size=64), text=text, embed_dim=48)
    model = models.build(config).eval()
    save_model(tmp_path / "out", model)
    loaded, _ = load_model(tmp_path / "out")
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    ids = torch.randint(1, 60, (2, 8))
    with torch.inference_mode():
        assert torch.equal(model.encode_text(ids), loaded.encode_text(ids))


def test_dtype_and_training_after_loading(tmp_path, random_model, vit):
    save_model(tmp_path / "out", random_model(vit))
    model, _ = load_model(tmp_path / "out", dtype=torch.bfloat16)
    assert {p.dtype for tower in (model.image, model.text) for p in tower.parameters()} == {
        torch.bfloat16
    }
    assert model.logit_scale.dtype == torch.float32
    model, _ = load_model(tmp_path / "out")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    again, _ = load_model(tmp_path / "out")  # the file was not written through
    assert any(p.abs().sum() > 0 for p in again.parameters())


def test_an_older_checkpoint_is_replaced_but_nothing_else(tmp_path, random_model, vit):
    save_model(tmp_path / "out", random_model(vit, seed=0))
    second = random_model(vit, seed=1)
    save_model(tmp_path / "out", second)
    assert torch.equal(load_model(tmp_path / "out").model.logit_scale, second.logit_scale)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="photos exists"):
        save_model(tmp_path / "photos", second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, random_model, vit):
    model = random_model(vit)
    save_model(tmp_path / "good", model)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        for name in ("new", "good"):
            with pytest.raises(CheckpointError, match="could not write"):
                save_model(tmp_path / name, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    load_model(tmp_path / "good")


def test_run_folder_means_its_newest_complete_checkpoint(tmp_path, random_model, vit):
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        load_model(run)
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="has no checkpoint; has the run saved yet"):
        load_model(run)
    for step in (10, 20, 30):
        save_model(
            run / "checkpoints" / f"step-{step:08d}",
            random_model(vit, seed=step),
            provenance={"step": step},
        )
    broken = run / "checkpoints" / "step-00000030" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    (run / "checkpoints" / "step-00000040").mkdir()
    shutil.copy(
        run / "checkpoints" / "step-00000010" / "model.json", run / "checkpoints" / "step-00000040"
    )
    said = "its model is whole, and step-00000020 is taken"
    with pytest.warns(DamageWarning, match=said):
        assert load_model(run).provenance["step"] == 20
    with pytest.warns(DamageWarning, match=said):
        assert detect(run) == "native"


KILLED = """
import sys
from diptych import models, pretrained
from diptych.weights.native import save_model
model = models.build(pretrained.get("tiny"))
for step in range(10000):
    save_model(f"{sys.argv[1]}/checkpoints/step-{step:08d}", model, provenance={"step": step})
"""


def test_killed_at_any_moment(tmp_path):
    process = Script(KILLED, tmp_path)
    checkpoints = tmp_path / "checkpoints"
    for _ in range(600):
        if len(list(checkpoints.glob("step-*"))) > 3:
            break
        time.sleep(0.05)
    process.signal(signal.SIGKILL)
    process.end()
    folders = sorted(checkpoints.glob("step-*"))
    assert len(folders) > 3
    for folder in folders[-3:]:
        load_model(folder)  # every named folder is whole, its sha256 included
    with pytest.warns(DamageWarning, match="its model is whole"):  # no training is beside it
        newest = load_model(tmp_path)
    assert newest.provenance["step"] == int(folders[-1].name.removeprefix("step-"))


@pytest.fixture
def saved(tmp_path, random_model, vit):
    save_model(tmp_path / "ck", random_model(vit))
    return tmp_path / "ck"


def damaged(folder, how):
    weights, meta = folder / native.WEIGHTS, folder / native.META
    content = weights.read_bytes()
    match how:
        case "truncated":
            weights.write_bytes(content[:-100])
        case "flipped bit":
            weights.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        case "no weights":
            weights.unlink()
        case "no json":
            meta.write_text("{")
        case "other json":
            meta.write_text("{}")
        case "from the future":
            meta.write_text(json.dumps(json.loads(meta.read_text()) | {"version": 2}))
        case "impossible":
            values = json.loads(meta.read_text())
            values["config"]["image"]["patch_size"] = 0
            meta.write_text(json.dumps(values))
        case "negative":
            values = json.loads(meta.read_text())
            values["config"]["image"]["mlp_width"] = -3
            meta.write_text(json.dumps(values))
        case "unknown field":
            values = json.loads(meta.read_text())
            values["config"]["image"]["flux"] = 1
            meta.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("truncated", "it is damaged"),
        ("flipped bit", "sha256"),
        ("no weights", "missing"),
        ("no json", "can't be read"),
        ("other json", "not the description"),
        ("from the future", "version 2"),
        ("unknown field", "flux"),
        ("impossible", "doesn't describe a model"),
        ("negative", "mlp_width -3 must be a number of at least 1"),
    ],
)
def test_damage_is_named(saved, how, says):
    damaged(saved, how)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def rewritten(folder, change):
    """The same checkpoint with other tensors, consistently described."""
    state = load_file(folder / native.WEIGHTS)
    change(state)
    save_file(state, folder / native.WEIGHTS)
    meta = json.loads((folder / native.META).read_text())
    weights = {
        "bytes": (folder / native.WEIGHTS).stat().st_size,
        "sha256": native.sha256(folder / native.WEIGHTS),
    }
    (folder / native.META).write_text(json.dumps(meta | {"weights": weights}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda state: state["text.blocks.1.mlp.up.bias"].fill_(torch.nan),
            "text.blocks.1.mlp.up.bias holds values",
        ),
        (
            lambda state: state["image.class_token"][3:4].fill_(torch.inf),
            "image.class_token holds values",
        ),
        (lambda state: state.pop("text.norm_post.bias"), "text.norm_post.bias is missing"),
        (lambda state: state.update(surplus=torch.zeros(1)), "surplus are not in the model"),
        (
            lambda state: state.update(logit_scale=torch.ones(1).to(torch.float8_e4m3fn)),
            "logit_scale is of torch.float8",
        ),
        (
            lambda state: state.update(logit_scale=torch.zeros(2)),
            r"logit_scale is \[2\] where the model has \[1\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, change, says):
    rewritten(saved, change)
    with pytest.raises(CheckpointError, match=says):
        load_model(saved)
