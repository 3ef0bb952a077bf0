"""Files that are written in parts are what safetensors itself writes."""

import errno

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.weights.mapped import DTYPES, read_safetensors
from diptych.weights.tensor_file import create, put


def test_of_one_kind_of_numbers_it_is_the_same_file_byte_for_byte(tmp_path):
    tensors = {name: torch.randn(3, 5) for name in ("b", "a", 'quo"te', "ä")}
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    places = create(tmp_path / "ours", tensors, {"format": "pt"})
    put(tmp_path / "ours", [(places[name], tensor) for name, tensor in tensors.items()])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_all_kinds_and_shapes_are_read_back(tmp_path):
    tensors = {name: torch.tensor([[0, 1, 1]]).to(dtype) for name, dtype in DTYPES.items()}
    tensors |= {"scalar": torch.tensor(7.0), "none": torch.zeros(0, 3), "odd": torch.ones(3).bool()}
    path = tmp_path / "a.safetensors"
    places = create(path, {name: tensor.to("meta") for name, tensor in tensors.items()})
    put(path, [(places[name], tensor) for name, tensor in tensors.items()])
    for found in (load_file(path), read_safetensors(path)):
        assert set(found) == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].shape == tensor.shape
            assert found[name].to(torch.float64).equal(tensor.to(torch.float64))
    # What is read as wide numbers must lie at a multiple of their size.
    assert all(places[name] % tensor.itemsize == 0 for name, tensor in tensors.items())


def test_rows_are_written_by_whoever_has_them(tmp_path):
    tensor, path = torch.randn(7, 3), tmp_path / "a.safetensors"
    begin = create(path, {"a": tensor.to("meta")})["a"]
    put(path, [(begin + 4 * 3 * 5, tensor[5:])])
    put(path, [(begin, tensor[:5])])
    assert load_file(path)["a"].equal(tensor)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    path = tmp_path / "a.safetensors"
    create(path, {"a": torch.zeros(1)})
    with pytest.raises(OSError, match="No space left") as raised:
        put(path, [])
    assert raised.value.filename == str(path)
