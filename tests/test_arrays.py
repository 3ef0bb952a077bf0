import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from diptych.arrays import read_npy, read_npz


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _npy(np.arange(4))[:-1],
        _header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**13,)}"),
        _header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,)}"),
        _header(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
        _header(b"(" * 300),
        _header(b" " * 60_000),
        b"\x93NUMPY\x09\x00" + bytes(20),
    ],
    ids=["empty", "cut", "power", "huge", "objects", "nested", "long", "version"],
)
def test_what_is_no_array_is_a_value_error_of_one_line(data: bytes):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_npy(data)


@pytest.mark.parametrize(
    ("offset_in_directory", "value"),
    [(6, b"\x63\x00"), (8, b"\x01\x00"), (8, b"\x20\x00"), (8, b"\x40\x00"), (10, b"\x63\x00")],
    ids=["version", "encrypted", "patched", "strongly encrypted", "compression"],
)
def test_zips_of_another_making_are_a_value_error(
    tmp_path: Path, offset_in_directory: int, value: bytes
):
    path = tmp_path / "a.npz"
    np.savez(path, ranks=np.arange(3))
    data = bytearray(path.read_bytes())
    for start, shift in ((data.find(b"PK\1\2"), 0), (data.find(b"PK\3\4"), -2)):
        at = start + offset_in_directory + shift
        data[at : at + 2] = value
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_npz(path, most=1000)


def test_a_small_zip_of_much_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("ranks.npy", _npy(np.zeros(1_000_000)))
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match="more than 1,000,000 bytes"):
        read_npz(path, most=1_000_000)
    assert len(read_npz(path, most=9_000_000)["ranks"]) == 1_000_000
