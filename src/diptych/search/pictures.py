"""The pictures of folders and of tar shards, as they lie on disk, and what can't be looked at."""

import glob
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from diptych.bounded import read_whole
from diptych.data.braces import expand_braces
from diptych.data.pictures import is_picture
from diptych.data.tar import index_tar, is_tar
from diptych.errors import DataError, ImageError, beside
from diptych.inputs.picture import MAX_BYTES
from diptych.inputs.room import room

NOT_PICTURES = ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "lost+found")
"""Names of folders that aren't entered: previews and bins that file servers keep among pictures."""
_LARGE = 1 << 25
"""Bytes of an encoded picture of which several at once would take much memory."""


class NoPlaceError(DataError):
    """Nothing lies at a place."""


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
    digest: str = field(default="", compare=False)
    """Of its bytes, as `digest` makes it; empty: not known."""
    text: str = ""
    """In an index of texts, which has no pictures: the text. Its `shard` is the file that it stands
    in, and its path is called FILE#ROW."""

    @property
    def file(self) -> str:
        """What lies on the disk: the picture, or its shard."""
        return self.shard or self.path

    @property
    def nbytes(self) -> int:
        """Length of the encoded picture."""
        return self.length if self.shard else self.size

    def read(self) -> bytes:
        """The encoded picture. Raises OSError if it is gone, ImageError if it is another one now,
        a giant or no file."""
        with room.held():
            if self.nbytes > _LARGE:  # one at a time, as long as the caller holds it
                room.take(room.size)
            return self._read()

    def _read(self) -> bytes:
        if self.nbytes > MAX_BYTES:
            raise ImageError(f"{self.path} has {self.nbytes:,} bytes, more than {MAX_BYTES:,}")
        if not self.shard:
            try:
                return read_whole(self.path, MAX_BYTES)
            except ValueError as error:
                raise ImageError(f"{self.path}: {error}") from error
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if self.digest and digest(data) != self.digest:
            raise ImageError(f"{self.path} isn't there any more: the shard was written anew")
        return data


@dataclass
class Listing:
    """What lies at some places, as far as they could be looked at."""

    exclude: Sequence[str] = NOT_PICTURES
    """Shell patterns; files and folders of such names are left out."""
    pictures: dict[str, Picture] = field(default_factory=dict[str, Picture])
    """By path, in a fixed order."""
    unread: dict[str, str] = field(default_factory=dict[str, str])
    """Files and folders that couldn't be looked at, wholly at least, and why."""
    others: Counter[str] = field(default_factory=Counter[str])
    """Files that are no pictures, by their endings; linked folders, which aren't entered; what was
    left out by its name."""
    places: set[str] = field(default_factory=set[str])
    """Where was looked."""
    _whole: set[str] = field(default_factory=set[str])
    """Folders that aren't empty, and shards, of which everything was seen."""

    def add(self, place: str) -> None:
        """Look at what is at or under `place`; tar shards are opened, hidden files left out."""
        self.places.add(place)
        for path in self._files(place):
            if self._is_wanted(path):
                self._add_file(path)

    def try_to_open(self, picture: Picture) -> None:
        """Count a file that was listed among what couldn't be looked at if it can't be read."""
        if picture.shard:  # it was read when it was listed
            return
        try:
            with open(picture.path, "rb") as file:
                file.read(1)
        except OSError as error:
            self.unread[picture.path] = error.strerror or str(error)
            del self.pictures[picture.path]

    def is_gone(self, picture: Picture) -> bool:
        """Whether a picture has vanished for certain: it isn't in its shard, or its file isn't in
        its folder, where there are other things. An empty folder may be a disk that isn't there."""
        return (
            picture.path not in self.pictures
            and picture.file not in self.unread
            and (picture.shard in self._whole or os.path.dirname(picture.file) in self._whole)
        )

    def covers(self, path: str) -> bool:
        """Whether `path` is one of the places or lies under one."""
        return any(above in self.places for above in _upwards(path))

    def unseen(self, path: str) -> str:
        """The uppermost of the files and folders that lead to `path` that wasn't seen whole."""
        for above in _upwards(path):
            if above in self.unread or above in self.places:
                return above
            if os.path.dirname(above) in self._whole:
                return above
        return path

    def _is_wanted(self, path: str) -> bool:
        if not _is_wanted(path):
            self.others[os.path.splitext(path)[1].lower() or "no ending"] += 1
        return _is_wanted(path)

    def _add_file(self, path: str) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            self.unread[path] = error.strerror or str(error)
            return
        if not stat.S_ISREG(status.st_mode):
            self.unread[path] = "is no regular file"  # to read a pipe is to wait for ever
        elif is_tar(path):
            self._add_members(path, status)
        else:
            picture = Picture(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)
            self.pictures[path] = picture

    def _add_members(self, shard: str, status: os.stat_result) -> None:
        try:
            members, wrong = _members(shard, status)
        except (DataError, OSError) as error:
            self.unread[shard] = str(error)
            return
        self.pictures |= {picture.path: picture for picture in members}
        if wrong:
            used = "; the pictures before that are used" if members else ""
            self.unread[shard] = f"{wrong}{used}"
        else:
            self._whole.add(shard)

    def _files(self, place: str) -> Iterator[str]:
        if not os.path.isdir(place):
            if os.path.lexists(place):
                yield place
            return

        def report(error: OSError) -> None:
            self.unread[str(error.filename)] = error.strerror or str(error)

        for folder, folders, names in os.walk(place, onerror=report):
            if folders or names:
                self._whole.add(folder)
            folders[:], names = self._shown(folders), self._shown(names)
            # Links to folders aren't entered: they may lead in a circle.
            linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            if linked:
                self.others["linked folder"] += len(linked)
            yield from (os.path.join(folder, name) for name in names)

    def _shown(self, names: list[str]) -> list[str]:
        seen = sorted(name for name in names if not name.startswith("."))
        shown = [name for name in seen if not any(fnmatchcase(name, p) for p in self.exclude)]
        if len(shown) < len(seen):
            self.others["left out by name"] += len(seen) - len(shown)
        return shown


def _upwards(path: str) -> Iterator[str]:
    yield path
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above


def digest(data: bytes) -> str:
    """By what a picture is known under another name.

    >>> from diptych.search.pictures import digest
    >>> len(digest(b"a picture"))
    32
    """
    return hashlib.sha256(data).hexdigest()[:32]


def roots(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], missing: bool = False
) -> list[str]:
    """The absolute paths that `source` names: folders, pictures, tar shards, or brace and shell
    patterns of such.

    Raises DataError if one is a file of another kind, NoPlaceError if it doesn't exist and may not
    be `missing`.
    """
    several = [source] if isinstance(source, str | os.PathLike) else source
    paths = [path for one in several for path in expanded(os.fspath(one))]
    for path in paths:
        if not os.path.exists(path):
            if missing:
                continue
            raise NoPlaceError(
                f"there is no {path}; name a folder of pictures, "
                f"or tar shards such as 'shards/{{00..09}}.tar'{beside(path)}"
            )
        if not os.path.isdir(path) and not os.path.isfile(path):
            raise DataError(f"{path} is no regular file")
        if not os.path.isdir(path) and not _is_wanted(path):
            raise DataError(
                f"{path} is neither a folder, a picture nor a tar shard; "
                "an index is made of those (of a table: name the folder of its pictures; of texts: "
                "`diptych embed MODEL texts.txt --texts`)"
            )
    return [os.path.abspath(path) for path in paths]


def outermost(places: Iterable[str]) -> list[str]:
    """The absolute paths that lie under none of the others, each once.

    >>> from diptych.search.pictures import outermost
    >>> outermost(["/a/b", "/c", "/a", "/c"])
    ['/c', '/a']
    """
    given = dict.fromkeys(places)
    return [place for place in given if sum(above in given for above in _upwards(place)) == 1]


def find_member(path: str) -> Picture | None:
    """The picture in a shard that is written SHARD.tar/KEY.ENDING; None if it is no such path.

    Raises DataError if the shard has no such picture.
    """
    if (shard := shard_of(path)) is None:
        return None
    if (found := members_of(shard).get(path)) is None:
        raise DataError(f"there is no picture {path[len(shard) + 1 :]} in {shard}")
    return found


def shard_of(path: str) -> str | None:
    """The shard in which a picture is said to lie by its path, SHARD.tar/KEY.ENDING; None if there
    is none."""
    ends = (place.end() - 1 for place in re.finditer(r"\.tar/", path, re.IGNORECASE))
    return next((path[:end] for end in ends if os.path.isfile(path[:end])), None)


def members_of(shard: str) -> dict[str, Picture]:
    """The pictures of a shard, by their paths. Raises DataError, OSError for one that can't be
    read."""
    pictures, _ = _members(shard, os.stat(shard))
    return {picture.path: picture for picture in pictures}


def _is_wanted(path: str) -> bool:
    return is_picture(path) or is_tar(path)


def expanded(text: str) -> list[str]:
    """What a brace or a shell pattern stands for; what exists stands for itself."""
    if os.path.exists(text):
        return [text]
    if "{" in text:
        return expand_braces(text)
    return sorted(glob.glob(text, recursive=True)) or [text]


def _members(shard: str, status: os.stat_result) -> tuple[list[Picture], str]:
    """The pictures of a shard, and what is wrong with it after them."""
    index, found = index_tar(Path(shard)), list[Picture]()
    for sample in range(len(index)):
        for ending, (offset, length) in index.members(sample).items():
            if is_picture(f"x.{ending}"):
                found.append(
                    Picture(
                        path=f"{shard}/{index.key(sample)}.{ending}",
                        size=status.st_size,
                        mtime_ns=status.st_mtime_ns,
                        shard=shard,
                        offset=offset,
                        length=length,
                    )
                )
    return found, index.error
