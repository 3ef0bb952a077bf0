"""Files that were made to take memory or time are refused before they do; a process that may have
2 GB reads them."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diptych.errors import CheckpointError
from diptych.weights.read import read_weights

PROTOCOL, STOP = b"\x80\x02", b"."
Write = Callable[[Path], None]
MODULE = b"c__torch__\nM\n)\x81"


def archive(pickled: bytes, kind: int = zipfile.ZIP_STORED, **more: bytes) -> Write:
    """A TorchScript archive with this pickle."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", kind) as file:
            file.writestr("a/data.pkl", pickled)
            file.writestr("a/code/m.py", "1")
            for name, data in more.items():
                file.writestr(f"a/{name}", data)

    return write


def twice(path: Path) -> None:
    archive(PROTOCOL + b"N" + STOP, **{"code/n.py": b"2"})(path)
    path.write_bytes(path.read_bytes().replace(b"a/code/n.py", b"a/code/m.py"))


def listed(size: int) -> Write:
    """A zip whose one entry says to have so many bytes."""

    def write(path: Path) -> None:
        archive(PROTOCOL + b"N" + STOP)(path)
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\1\2")
        struct.pack_into("<I", data, at + 24, size)
        path.write_bytes(data)

    return write


def many_entries(path: Path) -> None:
    archive(PROTOCOL + b"N" + STOP)(path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\5\6") + 12, 1 << 27)
    path.write_bytes(data)


def expanded(path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, path)


def header(text: bytes, data: bytes = b"") -> Write:
    def write(path: Path) -> None:
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)

    return write


def tensor(shape: object, offsets: object, dtype: str = "F32") -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


def circle() -> bytes:
    """A module that holds itself, twice."""
    return PROTOCOL + MODULE + b"q\0}(X\1\0\0\0ah\0X\1\0\0\0bh\0ub" + STOP


def twos(depth: int) -> bytes:
    """Modules that hold the next one twice: 2 ** depth names."""
    inner = MODULE + b"}b"
    for number in range(depth):
        index = bytes([number])
        pair = b"X\1\0\0\0ah" + index + b"X\1\0\0\0bh" + index
        inner = inner + b"q" + index + b"0" + MODULE + b"}(" + pair + b"ub"
    return PROTOCOL + inner + STOP


COPIES = (
    PROTOCOL
    + b"ctorch.jit._pickle\nbuild_intlist\nq\0("
    + b"K\0" * 200_000
    + b"tq\1"
    + b"h\0h\1\x85R" * 5000
    + STOP
)
HOSTILE: dict[str, Write] = {
    "memo of 2^28": archive(PROTOCOL + b"]r\0\0\0\x10" + STOP),
    "memo in letters": archive(b"]p999999999\n."),
    "bytearray of 2^40": archive(b"\x80\5\x96" + (1 << 40).to_bytes(8, "little") + STOP),
    "bytes of 2^62": archive(b"\x80\4\x8e" + (1 << 62).to_bytes(8, "little") + STOP),
    "text of 2^63": archive(b"\x80\4\x8d" + b"\xff" * 8 + STOP),
    "frame of 2^62": archive(b"\x80\4\x95" + (1 << 62).to_bytes(8, "little") + STOP),
    "long of 2^31": archive(PROTOCOL + b"\x8b\xff\xff\xff\x7f" + STOP),
    "digits": archive(b"I" + b"9" * 9999 + b"\n."),
    "copies of a list": archive(COPIES),
    "deep": archive(PROTOCOL + b"(" * 100_000 + b"t" * 100_000 + STOP),
    "circle": archive(circle()),
    "twos": archive(twos(60)),
    "deflated pickle": archive(PROTOCOL + b"N" * (1 << 27) + STOP, zipfile.ZIP_DEFLATED),
    "bzip2": archive(PROTOCOL + b"N" + STOP, zipfile.ZIP_BZIP2),
    "lzma": archive(PROTOCOL + b"N" + STOP, zipfile.ZIP_LZMA),
    "deflated tensor": archive(PROTOCOL + b"N" + STOP, zipfile.ZIP_DEFLATED, x=bytes(1 << 27)),
    "two of one name": twice,
    "an entry of 4 GB": listed((1 << 32) - 2),
    "a long list": many_entries,
    "one number, repeated": expanded,
    "header of 100 MB": header(b"[" * 100_000_000),
    "deep header": header(b'{"a":' * 200_000),
    "float offsets": header(tensor([1], [0.0, 4.0]), bytes(4)),
    "offsets of 2^70": header(tensor([1], [2**70, 0]), bytes(4)),
    "size of 2^70": header(tensor([0, 2**70], [0, 0])),
    "sizes without end": header(tensor([0] + [1 << 47] * 3, [0, 0])),
    "a million dimensions": header(tensor([1] * 100_000, [0, 4]), bytes(4)),
    "unknown numbers": header(tensor([1], [0, 4], "F128"), bytes(4)),
    "numbers of no name": header(tensor([1], [0, 4], dtype=None), bytes(4)),
    "GGUF": lambda path: path.write_bytes(b"GGUF\3\0\0\0" + bytes(100)),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_a_sentence(tmp_path, name):
    path = tmp_path / "model.bin"
    HOSTILE[name](path)
    with pytest.raises(CheckpointError) as caught:
        dict(read_weights(path).tensors)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


LIMITED = """
import resource, sys, time
import torch
from diptych.errors import CheckpointError
from diptych.weights.read import read_weights
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
for path in sys.argv[1:]:
    try:
        dict(read_weights(Path(path)).tensors)
        print("read", path)
    except CheckpointError:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)
print(time.process_time() - start)
"""


@pytest.mark.slow
def test_all_of_them_take_little_memory_and_time(tmp_path):
    paths = list[Path]()
    for number, write in enumerate(HOSTILE.values()):
        paths.append(tmp_path / f"{number}.bin")
        write(paths[-1])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    gigabytes, seconds = map(float, done.stdout.split())
    assert gigabytes < 1.5
    assert seconds < 60


def test_a_torch_file_called_safetensors_is_told_to_be_one(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"a torch file .* let its name end with \.pt"):
        read_weights(tmp_path / "model.safetensors")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is no regular file"):
        read_weights(tmp_path / "model.safetensors")
