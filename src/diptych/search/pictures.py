"""The pictures of folders and of tar shards, as they lie on disk."""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.data.pictures import is_picture
from diptych.data.tar import index_tar
from diptych.errors import DataError

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


def roots(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The absolute paths that `source` names: folders, pictures, tar shards, or brace and shell
    patterns of such.

    Raises DataError if one doesn't exist, or is a file of another kind.
    """
    several = [source] if isinstance(source, str | os.PathLike) else source
    paths = [path for one in several for path in _expanded(os.fspath(one))]
    for path in paths:
        if not os.path.exists(path):
            raise DataError(
                f"there is no {path}; name a folder of pictures, "
                "or tar shards such as 'shards/{00..09}.tar'"
            )
        if not os.path.isdir(path) and not (os.path.isfile(path) and _is_wanted(path)):
            raise DataError(
                f"{path} is neither a folder, a picture nor a tar shard; "
                "an index is made of those (of a table: name the folder of its pictures)"
            )
    return [os.path.abspath(path) for path in paths]


def find(root: str, report: Report, others: Counter[str] | None = None) -> Iterator[Picture]:
    """The pictures at or under `root` in a fixed order; tar shards are opened, hidden files
    left out.

    What can't be read goes to `report`; the rest goes on. `others` counts what is there but is no
    picture, by the files' endings.
    """
    others = Counter[str]() if others is None else others
    for path in _files(root, report, others):
        if not _is_wanted(path):
            others[os.path.splitext(path)[1].lower() or "no ending"] += 1
            continue
        try:
            status = os.stat(path)
        except OSError as error:
            report(path, error.strerror or str(error))
            continue
        if not stat.S_ISREG(status.st_mode):
            report(path, "is no regular file")  # to read a pipe is to wait for ever
        elif path.endswith(".tar"):
            yield from _members(path, status, report)
        else:
            yield Picture(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)


def find_member(path: str) -> Picture | None:
    """The picture in a shard that is written SHARD.tar/KEY.ENDING; None if it is no such path.

    Raises DataError if the shard has no such picture.
    """
    for place in re.finditer(r"\.tar/", path):
        shard = path[: place.end() - 1]
        if os.path.isfile(shard):
            inside = _members(shard, os.stat(shard), lambda path, reason: None)
            found = next((picture for picture in inside if picture.path == path), None)
            if found is None:
                raise DataError(f"there is no picture {path[place.end() :]} in {shard}")
            return found
    return None


def _is_wanted(path: str) -> bool:
    return is_picture(path) or path.endswith(".tar")


def _expanded(text: str) -> list[str]:
    """What a brace or a shell pattern stands for; what exists stands for itself."""
    if os.path.exists(text):
        return [text]
    if "{" in text:
        from braceexpand import braceexpand

        return list(braceexpand(text))
    return sorted(glob.glob(text, recursive=True)) or [text]


def _files(root: str, report: Report, others: Counter[str]) -> Iterator[str]:
    if not os.path.isdir(root):
        yield root
        return

    def report_folder(error: OSError) -> None:
        report(str(error.filename), error.strerror or str(error))

    for folder, folders, names in os.walk(root, onerror=report_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # Links to folders aren't entered: they may lead in a circle.
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        if linked:
            others["linked folder"] += len(linked)
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
            if is_picture(f"x.{ending}"):
                yield Picture(
                    path=f"{shard}/{index.key(sample)}.{ending}",
                    size=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    shard=shard,
                    offset=offset,
                    length=length,
                )
