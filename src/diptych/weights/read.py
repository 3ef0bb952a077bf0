"""Tensors out of any weight file, without running what is in it.

The kind of file is known by its first bytes, not by its name: safetensors, torch's zip and legacy
pickles (both by torch's restricted unpickler), TorchScript archives (by ours), NumPy's archives,
and folders of shards with an index.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from diptych.bounded import parse_json, read_whole
from diptych.errors import CheckpointError, DamagedError, first_line
from diptych.weights import deepspeed
from diptych.weights.archive import is_archive, is_numpy, is_torch, read_archive
from diptych.weights.mapped import read_safetensors, unreadable
from diptych.weights.numpy_file import read_numpy
from diptych.weights.pickled import read_torch, unwrapped
from diptych.weights.state import State

Kind = Literal["safetensors", "torch", "archive", "numpy"]
"""What a file of weights is; an archive is TorchScript's."""
_JSON = 1 << 27
"""Bytes of a configuration or of an index of shards."""
_ZIP, _PICKLE, _HEADER = b"PK\x03\x04", b"\x80", b"\0\0\0\0{"
_UNPACK = "unpack it, and give the file that is in it"
_AGAIN = "what it came from asked for a click or a login: download it with a browser"
_MADE_OF = "give the weights that it was made of"
_OTHERS = (
    (0, b"\x1f\x8b", f"packed by gzip; {_UNPACK}"),
    (0, b"BZh", f"packed by bzip2; {_UNPACK}"),
    (0, b"\xfd7zXZ", f"packed by xz; {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"packed by zstd; {_UNPACK}"),
    (257, b"ustar", f"a tar of files; {_UNPACK}"),
    (0, b"<", f"a web page; {_AGAIN}"),
    (0, b"{", "JSON, which may describe a model (config=, --config); give the weights beside it"),
    (0, b"GGUF", f"a GGUF of llama.cpp's; {_MADE_OF}"),
    (0, b"\x89HDF", f"a HDF5 of Keras's; {_MADE_OF}"),
)
"""What people take for weights: from which byte on it begins so, what it is, and what to do."""

_ENDINGS = {
    ".onnx": "an ONNX program",
    ".pt2": "a program of torch.export's",
    ".tflite": "a program of TensorFlow Lite's",
    ".msgpack": "a msgpack of Flax's",
}
"""The same by how names end, of what doesn't begin in a way of its own."""


class WeightFile(NamedTuple):
    """Names and tensors as a file holds them, and what kind of file it was."""

    tensors: State
    kind: Kind
    taken: str = ""
    """Which of several versions of the weights this is; empty: the file holds one."""
    key: str = ""
    """What is to be read of them, where a prefix of names says it and no container."""
    versions: tuple[str, ...] = ()
    """The containers of which each holds weights."""


def split_key(path: Path) -> tuple[Path, str]:
    """Of `FILE#KEY` the file, and which of its versions of the weights is meant; empty: the usual
    one.

    >>> from pathlib import Path
    >>> from diptych.weights.read import split_key
    >>> split_key(Path("epoch_3.pt#ema"))
    (PosixPath('epoch_3.pt'), 'ema')
    """
    name, mark, key = path.name.rpartition("#")
    if not mark or not name or path.exists():
        return path, ""
    return path.with_name(name), key


def read_weights(path: Path, key: str = "") -> WeightFile:
    """All tensors of a weight file, of the shards that an `….index.json` lists, or of the DeepSpeed
    checkpoint that a share belongs to. Mapped from the file where possible. `key` names which of
    several state dicts of a torch file; `WeightFile.key` is it where none has that name.

    Raises CheckpointError for a file that is missing, damaged, not a weight file, or would execute
    code.
    """
    if path.name.endswith(".index.json"):
        found = _read_shards(path)._replace(key=key)
    elif deepspeed.is_share(path):
        found = WeightFile(deepspeed.read_shares(path), "torch", key=key)
    else:
        found = _read_file(path, key)
    lazies = found.tensors.lazies
    return found._replace(tensors=State({unwrapped(name): lazy for name, lazy in lazies.items()}))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError if the file can't be read or holds something else."""
    try:
        values = parse_json(read_whole(path, _JSON))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise DamagedError(f"{path} can't be read: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise DamagedError(f"{path} holds a {type(values).__name__} where an object was expected")
    return values


def shards(index: Path) -> dict[str, set[str]]:
    """The files that an index lists, and the names of the tensors in each. Raises CheckpointError
    if there are none."""
    listed: object = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise CheckpointError(f"{index} lists no shards")
    names: dict[str, set[str]] = {}
    for name, file in listed.items():
        if not isinstance(file, str):
            raise CheckpointError(f"{index} lists no shards")
        names.setdefault(Path(file).name, set()).add(name)
    return dict(sorted(names.items()))


def _read_shards(index: Path) -> WeightFile:
    whole, kinds = State({}), list[Kind]()
    for file, names in shards(index).items():
        path = index.parent / file
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing, which {index.name} lists; copy or download all shards"
            )
        tensors, kind, *_ = _read_file(path)
        if wrong := names ^ tensors.keys():
            has = "has no" if min(wrong) in names else "has a"
            raise CheckpointError(
                f"{path} {has} {min(wrong)}, other than {index.name} says: "
                "it is damaged or of another model"
            )
        whole = whole.updated(tensors)
        kinds.append(kind)
    return WeightFile(whole, kinds[0])


def _read_file(path: Path, key: str = "") -> WeightFile:
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is no regular file")  # a pipe would be waited for
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise unreadable(path, error) from error
    # A header's length may begin as a pickle does; it is below 2^32, which no pickle looks like.
    if start[4:9] == _HEADER or (start[8:9] == b"{" and not start.startswith(_PICKLE)):
        return WeightFile(read_safetensors(path), "safetensors", key=key)
    if start.startswith(_ZIP) and is_numpy(path):
        return WeightFile(read_numpy(path), "numpy", key=key)
    if start.startswith(_ZIP) and is_archive(path):
        return WeightFile(State.of(read_archive(path)), "archive", key=key)
    is_zip = start.startswith(_ZIP) and not is_torch(path)
    if path.suffix in _ENDINGS and (is_zip or not start.startswith((_ZIP, _PICKLE))):
        what = _ENDINGS[path.suffix]
        raise CheckpointError(f"{path} is no weight file but {what}; {_MADE_OF}")
    if is_zip:
        raise CheckpointError(f"{path} is no weight file but a zip of files; {_UNPACK}")
    if start.startswith((_ZIP, _PICKLE)):
        weights = read_torch(path, mapped=start.startswith(_ZIP), key=key)
        return WeightFile(
            State.of(weights.tensors), "torch", weights.taken, weights.key, weights.versions
        )
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` where it came from"
        )
    for place, begins, what in _OTHERS:
        if start[place:].startswith(begins):
            raise CheckpointError(f"{path} is no weight file but {what}")
    is_it = "it is neither safetensors nor a torch file" if start else "it is empty"
    raise CheckpointError(f"{path} is no weight file: {is_it}")
