"""Whatever tensors a state dict holds, they are written with the right numbers, or refused in one
sentence."""

import warnings

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diptych.errors import CheckpointError
from diptych.weights.writing import save_tensors

BASE = torch.arange(12.0)
WRITTEN = {
    "two names": {"a": BASE, "b": BASE},
    "two shapes": {"a": BASE, "b": BASE.view(3, 4)},
    "parameters": {"a": nn.Parameter(BASE), "b": nn.Parameter(BASE)},
    "one within another": {"a": BASE, "b": BASE[2:5], "c": BASE[4:6]},
    "side by side": {"a": BASE[:5], "b": BASE[5:]},
    "transposed": {"a": BASE.view(3, 4).T, "b": BASE.view(3, 4)},
    "expanded": {"a": BASE[:1].expand(3), "b": BASE[::2]},
    "channels last": {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)},
    "empty": {"a": torch.empty(0), "b": torch.empty(3, 0), "c": BASE[:0]},
    "one number": {"a": BASE[3], "b": BASE[3]},
    "a part that is complex": {"a": torch.complex(BASE, -BASE).conj().imag},
    "kinds of numbers": {
        str(dtype): torch.ones(2).to(dtype)
        for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.bool)
    },
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_what_is_read(tmp_path, name):
    save_tensors(tmp_path / "file", WRITTEN[name])
    found = load_file(tmp_path / "file")
    assert found.keys() == WRITTEN[name].keys()
    for each, tensor in WRITTEN[name].items():
        assert found[each].dtype == tensor.dtype
        assert torch.equal(found[each], tensor)


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will have none of them one day
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


class Wrapped(torch.Tensor):
    """Whose numbers are another tensor's, as those of quantised weights are."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return Wrapped(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError


REFUSED = {
    "torch.complex64, which isn't read": torch.zeros(2, dtype=torch.complex64),
    "torch.uint16, which isn't read": torch.zeros(2, dtype=torch.uint16),
    "torch.float8_e5m2, which isn't": torch.zeros(2, dtype=torch.float8_e5m2),
    "sparse, quantised": torch.eye(2).to_sparse(),
    "quantised or nested": quantised(),
    "it is a Wrapped; make it a plain": Wrapped(torch.ones(2)),
    "on meta, without numbers": torch.zeros(2, device="meta"),
    "a dict and no tensor": {"epoch": 3},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_can_not_be_written_is_said(tmp_path, said):
    with pytest.raises(CheckpointError, match=rf"^head\.odd can't be written: .*{said}") as caught:
        save_tensors(tmp_path / "file", {"a": BASE, "head.odd": REFUSED[said]})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "file").exists()
