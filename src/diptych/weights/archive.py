"""The tensors inside a TorchScript archive, as OpenAI published CLIP, without loading its code.

An archive is a zip: `data.pkl` pickles the tree of modules, `data/N` are the raw storages, `code/`
the program. The pickle is read by an unpickler that knows tensors, a few lists and empty stand-ins
for modules; anything else is refused.
"""

import collections
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from diptych.errors import CheckpointError

_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands for any module of the archive: attributes, no behaviour."""

    attributes: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any):
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"a module's state is a {type(state).__name__}")
        self.attributes = state


def is_archive(path: Path) -> bool:
    """Whether a zip file is a TorchScript archive: it carries code. Raises CheckpointError if the
    zip is damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(_parts(name)[1:2] == ["code"] for name in file.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy or download it again") from error


def has_quick_gelu(path: Path) -> bool:
    """Whether the program of an archive has QuickGELU's constant: x * sigmoid(1.702 x)."""
    with zipfile.ZipFile(path) as file:
        programs = (file.read(name) for name in file.namelist() if name.endswith(".py"))
        return any(b"1.702" in program for program in programs)


def read_archive(path: Path) -> dict[str, Tensor]:
    """Every tensor of the module tree, by dotted name, in the dtype it was stored in.

    Raises CheckpointError if the archive is damaged or refers to anything but tensors and modules.
    """
    try:
        with zipfile.ZipFile(path) as file:
            (pickled,) = (name for name in file.namelist() if _parts(name)[1:] == ["data.pkl"])
            with file.open(pickled) as stream:
                root = _Unpickler(stream, file, pickled.removesuffix(".pkl")).load()
        if not isinstance(root, _Module):
            raise pickle.UnpicklingError(f"it holds a {type(root).__name__} instead of a module")
        return dict(_tensors(root, ""))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: {error}; only tensors are read from an archive"
        ) from error
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy or download it again") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: Any, file: zipfile.ZipFile, storages: str):
        super().__init__(stream)
        self.file, self.storages = file, storages
        self.seen: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle" and name in (
            "build_intlist",
            "build_doublelist",
            "build_boollist",
        ):
            return list
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"it asks for a {kind!r}")
        if key not in self.seen:
            self.seen[key] = self._storage(f"{self.storages}/{key}", dtype, count)
        return self.seen[key]

    def _storage(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        entry = self.file.getinfo(name)
        # Storages are stored as they are, so that an honest size can't exceed the file's.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
            raise ValueError(f"storage {name} has a wrong size")
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(self.file.read(entry)), dtype=dtype)


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")


def _parts(name: str) -> list[str]:
    return name.split("/")
