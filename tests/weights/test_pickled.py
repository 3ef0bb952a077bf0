"""torch's files: the weights wherever a training checkpoint keeps them, and nothing else."""

import collections
import sys
import types
import zipfile

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
        lambda weights: {"a.weight": weights["a.weight"], "module.b": weights["b"]},
        lambda weights: collections.OrderedDict(
            (n, torch.nn.Parameter(t)) for n, t in weights.items()
        ),
    ],
)
def test_containers_and_prefixes(tmp_path, wrap, mapped):
    torch.save(wrap(WEIGHTS), tmp_path / "w.pt", _use_new_zipfile_serialization=mapped)
    same(read_torch(tmp_path / "w.pt", mapped))


def test_the_first_container_is_evas(tmp_path):
    torch.save({"state_dict": {"other": torch.zeros(1)}, "model": WEIGHTS}, tmp_path / "w.pt")
    same(read_torch(tmp_path / "w.pt", mapped=True))


def test_the_file_is_mapped_anew_as_it_is_read(tmp_path, monkeypatch):
    weights = {f"{i}": torch.full((100,), float(i)) for i in range(20)}
    torch.save(dict(reversed(weights.items())), tmp_path / "w.pt")
    monkeypatch.setattr(mapped, "TAKEN", 1000)
    state = read_torch(tmp_path / "w.pt", mapped=True)
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
    same(read_torch(tmp_path / "w.pt", mapped=True))
    assert type(load(tmp_path / "w.pt")["loss_scaler"]).__module__.startswith("diptych.")
    assert not traces


def test_what_others_pickle_is_refused_and_named(tmp_path, pretended):
    make, traces = pretended
    for module in ("deepspeed_evil", "notdeepspeed.runtime"):
        torch.save({"module": WEIGHTS, "scaler": make(module)}, tmp_path / "w.pt")
        with pytest.raises(
            CheckpointError,
            match=rf"\({module}.Scaler\), so reading it could execute code: refused",
        ):
            read_torch(tmp_path / "w.pt", mapped=True)
    assert not traces


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
