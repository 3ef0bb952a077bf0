"""The pictures of folders and of tar shards, as they lie on disk."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diptych.data.source import PICTURE_ENDINGS
from diptych.data.tar import index_tar
from diptych.errors import DataError

_ENDINGS = frozenset(ending.removeprefix(".") for ending in PICTURE_ENDINGS)

Report = Callable[[str, str], None]
"""Called with a path and the reason why it couldn't be read."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture, and by what one sees whether it has changed."""

    path: str
    """Absolute. Of a picture in a tar shard: SHARD.tar/KEY.ENDING."""
    size: int
    """Bytes of the file on disk: the picture or its shard."""
    mtime_ns: int
    """When that file was last written, in nanoseconds."""
    shard: str = ""
    """The tar file that the picture lies in; empty: it is a file of its own."""
    offset: int = 0
    length: int = 0
    """Where in the shard."""

    def read(self) -> bytes:
        """The encoded picture. Raises OSError if it is gone."""
        if not self.shard:
            return Path(self.path).read_bytes()
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def is_picture_name(path: str) -> bool:
    """Whether the path ends as a picture's does, in any case.

    >>> from diptych.search.pictures import is_picture_name
    >>> is_picture_name("holiday/IMG_0042.JPG"), is_picture_name("a cat. a dog")
    (True, False)
    """
    return os.path.splitext(path)[1].lower() in PICTURE_ENDINGS


def roots(source: str | os.PathLike[str]) -> list[str]:
    """The absolute paths that `source` names: a folder, a picture, a tar shard, or a brace pattern
    of such.

    Raises DataError if one doesn't exist.
    """
    text = os.fspath(source)
    paths = [text]
    if not os.path.exists(text) and "{" in text:
        from braceexpand import braceexpand

        paths = list(braceexpand(text))
    for path in paths:
        if not os.path.exists(path):
            raise DataError(
                f"there is no {path}; name a folder of pictures, "
                "or tar shards such as 'shards/{00..09}.tar'"
            )
    return [os.path.abspath(path) for path in paths]


def find(root: str, report: Report) -> Iterator[Picture]:
    """The pictures at or under `root` in a fixed order; tar shards are opened, hidden files
    left out.

    What can't be read goes to `report`; the rest goes on.
    """
    for path in _files(root, report):
        if not is_picture_name(path) and not path.endswith(".tar"):
            continue
        try:
            status = os.stat(path)
        except OSError as error:
            report(path, error.strerror or str(error))
            continue
        if path.endswith(".tar"):
            yield from _members(path, status, report)
        else:
            yield Picture(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _files(root: str, report: Report) -> Iterator[str]:
    if not os.path.isdir(root):
        yield root
        return

    def report_folder(error: OSError) -> None:
        report(str(error.filename), error.strerror or str(error))

    for folder, folders, names in os.walk(root, onerror=report_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            os.path.join(folder, name) for name in sorted(names) if not name.startswith(".")
        )


def _members(shard: str, status: os.stat_result, report: Report) -> Iterator[Picture]:
    try:
        index = index_tar(Path(shard))
    except (DataError, OSError) as error:
        report(shard, str(error))
        return
    if index.error:
        report(shard, f"{index.error}; the pictures before that are used")
    for sample in range(len(index)):
        for ending, (offset, length) in index.members(sample).items():
            if ending.rpartition(".")[2] in _ENDINGS:
                yield Picture(
                    path=f"{shard}/{index.key(sample)}.{ending}",
                    size=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    shard=shard,
                    offset=offset,
                    length=length,
                )
