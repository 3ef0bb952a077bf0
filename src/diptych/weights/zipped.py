"""Zips of tensors, checked before anything in them is unpacked.

`torch.save` and `torch.jit.save` store tensors as they are and deflate nothing but programs. So
what an entry says of its size can be held against the file's, and a few kilobytes never become
gigabytes.
"""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path

from diptych.errors import CheckpointError, first_line

_DIRECTORY = 1 << 25
"""Bytes of a zip's list of entries: a quarter of a million."""
_DEFLATED = 1 << 26
"""Bytes of all that is deflated, unpacked."""
DAMAGE = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, OverflowError, MemoryError, struct.error, UnicodeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What torch, pickle and zipfile raise over bytes that nobody wrote on purpose."""
_END, _END64 = b"PK\5\6", b"PK\6\6"


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip, of which every entry may be read. Raises CheckpointError for one that is damaged,
    or that would unpack to more than the file holds."""
    try:
        _check_directory(path)
        opened = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise CheckpointError(
            f"{path} is damaged ({first_line(error)}); copy or download it again"
        ) from error
    try:
        _check_entries(opened, path)
    except BaseException:
        opened.close()
        raise
    return opened


def _check_directory(path: Path) -> None:
    """zipfile reads the list of entries at once, and makes an object of each."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 66_000))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0:
        raise ValueError("it has no list of entries")
    (listed,) = struct.unpack_from("<I", tail, at + 12)
    if listed == 0xFFFFFFFF and (at := tail.rfind(_END64, 0, at)) >= 0:
        (listed,) = struct.unpack_from("<Q", tail, at + 40)
    if listed > _DIRECTORY:
        raise ValueError(f"its list of entries has {listed:,} bytes")


def _check_entries(opened: zipfile.ZipFile, path: Path) -> None:
    entries = opened.infolist()
    stored = sum(each.file_size for each in entries if each.compress_type == zipfile.ZIP_STORED)
    deflated = sum(each.file_size for each in entries if each.compress_type != zipfile.ZIP_STORED)
    kinds = {each.compress_type for each in entries} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if len({each.filename for each in entries}) < len(entries):
        wrong = "two entries have one name"
    elif kinds or any(each.flag_bits & 1 for each in entries):
        wrong = "an entry is packed or encrypted in a way that torch never does"
    elif stored > path.stat().st_size or deflated > _DEFLATED:
        wrong = "its entries would unpack to more than a file of its size can hold"
    else:
        return
    raise CheckpointError(f"{path} is refused: {wrong}")
