"""Safetensors files, read through windows: the very tensors, however small the window."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from diptych.errors import CheckpointError
from diptych.weights import mapped
from diptych.weights.mapped import Reopened, read_safetensors

KINDS = [
    *(
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    ),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


@pytest.fixture
def file(tmp_path):
    """A file of every kind of number, an empty tensor, a scalar, and matrices of several pages."""
    torch.manual_seed(0)
    tensors = {str(kind): (100 * torch.randn(7, 3)).to(kind) for kind in KINDS}
    tensors |= {f"matrix.{i}": torch.randn(40 + i, 100) for i in range(6)}
    tensors |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("window", [1, 10_000, 1 << 29])
def test_the_very_tensors(file, monkeypatch, window):
    monkeypatch.setattr(mapped, "WINDOW", window)
    expected, state = load_file(file), read_safetensors(file)
    assert state.keys() == expected.keys()
    once = {name: lazy.once for name, lazy in state.lazies.items()}
    for name in [*state, *reversed(list(state))]:  # forwards and back again
        tensor, like = state[name], state.shapes[name]
        assert (
            torch.equal(once[name]().view(torch.uint8), tensor.view(torch.uint8))
            if tensor.ndim
            else tensor == 2.5
        )
        assert (
            (tensor.dtype, tensor.shape)
            == (like.dtype, like.shape)
            == (expected[name].dtype, expected[name].shape)
        )
        assert (
            tensor.view(torch.uint8).equal(expected[name].view(torch.uint8))
            if tensor.ndim
            else tensor == 2.5
        )


def test_names_come_in_the_order_of_the_file(file):
    header = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
    header.pop("__metadata__")
    assert list(read_safetensors(file)) == sorted(
        header, key=lambda name: header[name]["data_offsets"][0]
    )


def test_the_file_is_not_written_through(file):
    before = file.read_bytes()
    for tensor in read_safetensors(file).values():
        tensor.zero_()
    assert file.read_bytes() == before


def written(path, header, data=b"\0" * 8):
    content = json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


@pytest.mark.parametrize(
    "told",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]},
        {"dtype": "F32", "shape": [2**70, 0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_a_header_that_lies_is_damage(tmp_path, told):
    with pytest.raises(CheckpointError, match="is damaged"):
        read_safetensors(written(tmp_path / "a", {"a": told}))
    with pytest.raises(CheckpointError, match="is damaged"):
        read_safetensors(written(tmp_path / "b", told))


@pytest.mark.parametrize("places", [[(0, 4), (0, 4)], [(4, 8), (4, 8)], [(0, 4), (8, 12)]])
def test_no_byte_belongs_to_two_tensors_or_to_none(tmp_path, places):
    header = {
        f"x{number}": {"dtype": "F32", "shape": [1], "data_offsets": list(place)}
        for number, place in enumerate(places)
    }
    with pytest.raises(CheckpointError, match="overlap or leave a hole"):
        read_safetensors(written(tmp_path / "a", header))


def test_a_tensor_of_two_names_has_both_again(tmp_path):
    """Of a module that shares a matrix, safetensors writes one name, and tells the other."""
    shared = nn.Sequential(nn.Linear(600, 600, bias=False), nn.Linear(600, 600, bias=False))
    shared[1].weight = shared[0].weight
    save_model(shared, tmp_path / "file", metadata={"format": "pt"})
    state = read_safetensors(tmp_path / "file")
    assert list(state) == ["0.weight", "1.weight"]
    first, second = state["0.weight"], state["1.weight"]
    assert torch.equal(first, second)
    second += 1  # each has numbers of its own
    assert torch.equal(first, shared[0].weight)


def test_numbers_of_an_unknown_kind(tmp_path):
    header = {"x.weight": {"dtype": "F4", "shape": [2, 8], "data_offsets": [0, 8]}}
    with pytest.raises(
        CheckpointError, match="x.weight is of F4; weights are read in 16, 32 and 64 bits"
    ):
        read_safetensors(written(tmp_path / "a", header))


def test_a_file_that_shrank(file, monkeypatch):
    monkeypatch.setattr(mapped, "WINDOW", 1)
    state = read_safetensors(file)
    file.write_bytes(file.read_bytes()[:2000])
    for read in (state.lazies["matrix.5"].make, state.lazies["matrix.5"].once):
        with pytest.raises(CheckpointError, match="can't be mapped"):
            read()


def test_what_was_read_goes_with_its_mapping(monkeypatch):
    monkeypatch.setattr(mapped, "TAKEN", 10)
    opened = []
    content = Reopened(lambda: opened.append(1) or len(opened))
    assert [content.take(size) for size in (4, 8, 4, 4, 11, 0)] == [1, 1, 2, 2, 2, 3]
