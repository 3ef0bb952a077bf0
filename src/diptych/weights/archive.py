"""The tensors inside a TorchScript archive, as OpenAI published CLIP, without loading its code.

An archive is a zip: `data.pkl` pickles the tree of modules, `data/N` are the raw storages, `code/`
the program. The pickle is read by an unpickler that knows tensors, a few lists and empty stand-ins
for modules; anything else is refused.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from diptych.errors import CheckpointError, first_line
from diptych.weights.zipped import DAMAGE, open_zip

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


_PICKLE = 1 << 23
"""Bytes of the pickle; a tower of 12 layers takes 12 kB."""
_MEMO = 16
"""Numbers of a pickle's memo for each object in it, at most; torch counts from 0."""
_MODULES = 100_000


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
    with open_zip(path) as file:
        return any(_parts(name)[1:2] == ["code"] for name in file.namelist())


def is_numpy(path: Path) -> bool:
    """Whether a zip file is NumPy's `.npz`: arrays alone. Raises CheckpointError if the zip is
    damaged."""
    with open_zip(path) as file:
        names = file.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)


def is_torch(path: Path) -> bool:
    """Whether a zip file is `torch.save`'s: it has a pickle in a folder. Raises CheckpointError if
    the zip is damaged."""
    with open_zip(path) as file:
        return any(_parts(name)[1:] == ["data.pkl"] for name in file.namelist())


def has_quick_gelu(path: Path) -> bool:
    """Whether the program of an archive has QuickGELU's constant: x * sigmoid(1.702 x). Raises
    CheckpointError if it can't be read."""
    with open_zip(path) as file:
        try:
            programs = (file.read(name) for name in file.namelist() if name.endswith(".py"))
            return any(b"1.702" in program for program in programs)
        except DAMAGE as error:
            raise _damaged(path, error) from error


def read_archive(path: Path) -> dict[str, Tensor]:
    """Every tensor of the module tree, by dotted name, in the dtype it was stored in.

    Raises CheckpointError if the archive is damaged or refers to anything but tensors and modules.
    """
    with open_zip(path) as file:
        try:
            (name,) = (name for name in file.namelist() if _parts(name)[1:] == ["data.pkl"])
            if file.getinfo(name).file_size > _PICKLE:
                raise pickle.UnpicklingError(f"its pickle has more than {_PICKLE:,} bytes")
            pickled = file.read(name)
            _check_memo(pickled)
            root = _Unpickler(pickled, file, name.removesuffix(".pkl")).load()
            if not isinstance(root, _Module):
                raise pickle.UnpicklingError(f"it holds a {type(root).__name__}, and no module")
            return dict(_tensors(root, "", count()))
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{path} is refused: {error}; only tensors are read from an archive"
            ) from error
        except DAMAGE as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({first_line(error)}); copy or download it again")


def _check_memo(pickled: bytes) -> None:
    """Python's unpickler makes room for a memo up to the largest number that is used, and for
    texts as long as they say."""
    stored = 0
    for operation, number, _ in pickletools.genops(pickled):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            assert isinstance(number, int)
            stored += 1
            if number > _MEMO * stored:
                raise pickle.UnpicklingError(f"its memo begins at {number:,}")


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, file: zipfile.ZipFile, storages: str):
        super().__init__(io.BytesIO(pickled))
        self.file, self.storages = file, storages
        self.seen: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _empty
        if module == "torch.jit._pickle" and name in (
            "build_intlist",
            "build_doublelist",
            "build_boollist",
        ):
            return _same
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
    tensor = storage.as_strided(size, stride, offset)
    if tensor.numel() > storage.numel():
        raise ValueError(f"a tensor of {list(size)} has {storage.numel()} numbers in the file")
    return tensor


def _same(values: Any) -> Any:
    """A list of numbers, which nobody asks for; a copy of each could fill the memory."""
    return values


def _empty() -> dict[str, Any]:
    """Hooks."""
    return {}


def _tensors(module: _Module, prefix: str, visited: Iterator[int]) -> Iterator[tuple[str, Tensor]]:
    # Modules that hold each other in a circle, or in twos, would have names without end.
    if next(visited) > _MODULES:
        raise pickle.UnpicklingError(f"it has more than {_MODULES:,} modules")
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.", visited)


def _parts(name: str) -> list[str]:
    return name.split("/")
