"""torch's files: the weights wherever a training checkpoint keeps them, and nothing else."""

import argparse
import collections
import datetime
import pathlib
import shutil
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from diptych.errors import CheckpointError
from diptych.weights import mapped
from diptych.weights.pickled import load, read_torch

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16)}
BESIDE = {
    "epoch": 3,
    "optimizer": {"state": {0: torch.ones(2)}},
    "scaler": {"scale": 2.0**16},
    "args": {"lr": 1e-3},
}


def same(state, expected=WEIGHTS):
    assert state.keys() == expected.keys()
    assert all(
        torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype
        for name, tensor in expected.items()
    )


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: BESIDE | {"model": weights},
        lambda weights: BESIDE | {"module": weights},
        lambda weights: BESIDE | {"state_dict": weights},
        lambda weights: BESIDE | {"model": BESIDE | {"state_dict": weights}},
        lambda weights: {"module": {"module": {"model": weights}}},
        lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {
            "state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in weights.items()}
        },
        lambda weights: BESIDE | {"model_state_dict": weights},
        lambda weights: BESIDE | {"net": weights},
        lambda weights: {"params": weights},
        lambda weights: BESIDE | {"name": {"of": "no tensor"}, "anything": weights},
        lambda weights: BESIDE | {"model": {"name": "ViT-B-32"}, "state_dict": weights},
        lambda weights: BESIDE | {"model_ema": weights},
        lambda weights: {
            f"_fsdp_wrapped_module.{name.replace('.', '._fsdp_wrapped_module.')}": tensor
            for name, tensor in weights.items()
        },
        lambda weights: {
            name.replace("a.", "a._checkpoint_wrapped_module._orig_mod."): tensor
            for name, tensor in weights.items()
        },
        lambda weights: {"a.weight": weights["a.weight"], "module.b": weights["b"]},
        lambda weights: collections.OrderedDict(
            (n, torch.nn.Parameter(t)) for n, t in weights.items()
        ),
    ],
)
def test_containers_and_prefixes(tmp_path, wrap, mapped):
    torch.save(wrap(WEIGHTS), tmp_path / "w.pt", _use_new_zipfile_serialization=mapped)
    same(read_torch(tmp_path / "w.pt", mapped).tensors)


def test_the_first_container_is_evas(tmp_path):
    torch.save({"state_dict": {"other": torch.zeros(1)}, "model": WEIGHTS}, tmp_path / "w.pt")
    same(read_torch(tmp_path / "w.pt", mapped=True).tensors)


@pytest.mark.parametrize("ema", ["model_ema", "state_dict_ema", "ema"])
@pytest.mark.parametrize("name", ["model", "state_dict", "whatever"])
def test_of_several_versions_the_trained_one_is_taken_and_named(tmp_path, name, ema):
    average = {f"module.{each}": tensor * 0 for each, tensor in WEIGHTS.items()}
    torch.save(BESIDE | {ema: average, name: WEIGHTS}, tmp_path / "w.pt")
    weights = read_torch(tmp_path / "w.pt", mapped=True)
    same(weights.tensors)
    assert weights.taken == f"{name}, not {ema}"


def test_two_of_unknown_names_are_not_chosen_between(tmp_path):
    torch.save(BESIDE | {"one": WEIGHTS, "two": WEIGHTS}, tmp_path / "w.pt")
    with pytest.raises(
        CheckpointError, match=r"several state dicts \(one, two\); say which: .*#one"
    ):
        read_torch(tmp_path / "w.pt", mapped=True)


def test_what_is_no_state_dict_is_named(tmp_path):
    torch.save({"a": torch.ones(1), "epochs": [3]}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no state dict: 'epochs' is not a dense tensor"):
        read_torch(tmp_path / "w.pt", mapped=True)


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=1e-3, out=pathlib.Path("runs")),
        pathlib.Path("runs/1"),
        np.float64(3.5),
        np.arange(3),
        types.SimpleNamespace(epoch=3),
        datetime.datetime(2026, 1, 1),
        collections.defaultdict(list),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_beside_the_weights_is_passed_by(tmp_path, beside):
    torch.save({"args": beside, "epoch": 3, "model": WEIGHTS}, tmp_path / "w.pt")
    same(read_torch(tmp_path / "w.pt", mapped=True).tensors)


def test_the_file_is_mapped_anew_as_it_is_read(tmp_path, monkeypatch):
    weights = {f"{i}": torch.full((100,), float(i)) for i in range(20)}
    torch.save(dict(reversed(weights.items())), tmp_path / "w.pt")
    monkeypatch.setattr(mapped, "TAKEN", 1000)
    state = read_torch(tmp_path / "w.pt", mapped=True).tensors
    assert list(state) == list(reversed(weights))  # as they lie in the file
    same(state, weights)
    same({name: lazy.once() for name, lazy in state.lazies.items()}, weights)


def test_a_file_larger_than_the_system_maps(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError(
            "unable to mmap 42949672960 bytes from file <w.pt>: Cannot allocate memory (12)"
        )

    torch.save(WEIGHTS, tmp_path / "w.pt")
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(
        CheckpointError, match=r"w.pt is larger than this system maps; let it \(`sysctl"
    ):
        read_torch(tmp_path / "w.pt", mapped=True)


def test_one_name_twice(tmp_path):
    torch.save({"b": torch.zeros(1), "module.b": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="with and without a wrapper's prefix"):
        read_torch(tmp_path / "w.pt", mapped=True)


def test_a_container_within_itself(tmp_path):
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_torch(tmp_path / "w.pt", mapped=True)


@pytest.fixture
def pretended(monkeypatch):
    """A module of this name, with a class in it whose use leaves a trace."""
    traces = []

    def make(module):
        names = module.split(".")
        for i in range(len(names)):
            monkeypatch.setitem(sys.modules, ".".join(names[: i + 1]), types.ModuleType(names[i]))

        class Scaler:
            def __init__(self, *args):
                self.args = args

            def __setstate__(self, state):
                traces.append(state)

            def __reduce__(self):
                return Scaler, (1, 2), {"scale": 1.0}

        Scaler.__module__, Scaler.__qualname__ = module, "Scaler"
        vars(sys.modules[module])["Scaler"] = Scaler
        return Scaler()

    return make, traces


def test_what_deepspeed_pickles_becomes_a_stand_in(tmp_path, pretended):
    make, traces = pretended
    torch.save(
        {"module": WEIGHTS, "loss_scaler": make("deepspeed.runtime.fp16")}, tmp_path / "w.pt"
    )
    same(read_torch(tmp_path / "w.pt", mapped=True).tensors)
    assert type(load(tmp_path / "w.pt")["loss_scaler"]).__module__.startswith("diptych.")
    assert not traces


def test_so_does_what_anybody_else_pickles(tmp_path, pretended):
    make, traces = pretended
    for module in ("train", "omegaconf.nodes"):
        torch.save({"module": WEIGHTS, "scaler": make(module)}, tmp_path / "w.pt")
        same(read_torch(tmp_path / "w.pt", mapped=True).tensors)
    assert not traces


@pytest.mark.parametrize("trap", [eval, open, shutil.rmtree, getattr, torch.load])
def test_what_could_run_code_is_refused_and_named(tmp_path, trap):
    torch.save({"module": WEIGHTS, "args": trap}, tmp_path / "w.pt")
    name = f"{trap.__module__}.{trap.__qualname__}"
    with pytest.raises(
        CheckpointError, match=rf"\({name}\), so reading it could execute code: refused"
    ):
        read_torch(tmp_path / "w.pt", mapped=True)


class Trap:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_beside_a_stand_in_is_refused_and_never_run(tmp_path, pretended):
    make, _ = pretended
    content = {
        "module": WEIGHTS,
        "scaler": make("deepspeed.runtime"),
        "args": Trap(tmp_path / "trap"),
    }
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="could execute code: refused"):
        read_torch(tmp_path / "w.pt", mapped=True)
    assert not (tmp_path / "trap").exists()


def test_a_stand_in_leads_nowhere(tmp_path):
    """`deepspeed` names something harmful by a way round: it is not looked up at all."""
    protocol_0 = (
        b"cdeepspeed.runtime.os\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "trap").encode()
    )
    torch.save({"module": WEIGHTS}, tmp_path / "w.pt")
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as old,
        zipfile.ZipFile(tmp_path / "evil.pt", "w") as new,
    ):
        for entry in old.infolist():
            new.writestr(
                entry.filename,
                protocol_0 if entry.filename.endswith("data.pkl") else old.read(entry),
            )
    with pytest.raises(CheckpointError):
        read_torch(tmp_path / "evil.pt", mapped=True)
    assert not (tmp_path / "trap").exists()
