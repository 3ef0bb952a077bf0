"""Which files are pictures, by their endings, and what lies in a folder of them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diptych.errors import DataError

PICTURE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"),
    *(".jp2", ".j2k", ".jpf", ".jpx", ".tif", ".tiff", ".bmp", ".dib", ".tga", ".qoi"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Endings of picture files that are read, in lower case. What such a file really holds, its first
bytes say."""
UNREAD_ENDINGS = (
    *(".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".xcf", ".eps", ".exr", ".dcm"),
    *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2"),
    *(".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".iiq"),
)
"""Endings of pictures in formats that aren't read: they are counted, and said."""
_SHOWN = 5


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does, in any case.

    >>> from diptych.data.pictures import is_picture
    >>> is_picture("IMG_0042.JPG"), is_picture("x.heic"), is_picture("jpg")
    (True, False, False)
    """
    return _ending(name) in PICTURE_ENDINGS


def without_number(name: str) -> str:
    """A picture's name without the number of its caption, as Flickr8k and Flickr30k have it.

    >>> from diptych.data.pictures import without_number
    >>> without_number("1000092795.jpg#3"), without_number("c#3.jpg"), without_number("#3")
    ('1000092795.jpg', 'c#3.jpg', '#3')
    """
    stem, mark, number = name.rpartition("#")
    return stem if mark and number.isdecimal() and is_picture(stem) else name


def unread_formats(names: Iterable[str]) -> str:
    """What to say of pictures among the files that are in formats that aren't read; empty: nothing.

    >>> from diptych.data.pictures import unread_formats
    >>> unread_formats(["a.HEIC", "b.heic", "c.cr2", "d.jpg", "e.txt"])
    "3 files of formats that aren't read (.heic 2, .cr2 1); convert them to JPEG or PNG"
    """
    found = Counter(ending for name in names if (ending := _ending(name)) in UNREAD_ENDINGS)
    if not found:
        return ""
    shown = [f"{ending} {count:,}" for ending, count in found.most_common(_SHOWN)]
    more = ", …" if len(found) > _SHOWN else ""
    files = "files" if found.total() > 1 else "file"
    return (
        f"{found.total():,} {files} of formats that aren't read ({', '.join(shown)}{more}); "
        "convert them to JPEG or PNG"
    )


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The files in and below a folder, as paths from it, in a stable order. Files and folders whose
    names begin with a dot are left out; links to folders are followed."""

    root: Path
    pictures: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, root: Path) -> "Contents":
        """Walk the folder. Raises DataError where it can't be read."""
        try:
            files = list(_walk(root, "", frozenset()))
        except OSError as error:
            raise DataError(f"{error.filename} can't be read: {error.strerror}") from None
        return cls(
            root=root,
            pictures=tuple(filter(is_picture, files)),
            others=tuple(name for name in files if not is_picture(name)),
        )

    @property
    def unread(self) -> str:
        """What to say of pictures in formats that aren't read; empty: nothing."""
        return unread_formats(self.others)

    @property
    def picture_folders(self) -> tuple[str, ...]:
        """Paths of the folders that hold pictures themselves; empty: the root."""
        return tuple(dict.fromkeys(map(os.path.dirname, self.pictures)))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the root's sub-folders that hold pictures, at any depth."""
        tops = (name.partition("/") for name in self.pictures)
        return tuple(dict.fromkeys(top for top, below, _ in tops if below))


def _walk(root: Path, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Paths of the files, those of a folder before those of its sub-folders."""
    place = os.stat(root / below)
    if (place.st_dev, place.st_ino) in above:  # a link to a folder that this one lies in
        return
    with os.scandir(root / below) as found:
        entries = sorted(
            (entry for entry in found if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    for entry in entries:
        # A pipe, a device or a broken link that is called like a picture is a bad one.
        if entry.is_file() or (is_picture(entry.name) and not entry.is_dir()):
            yield f"{below}{entry.name}"
    for entry in entries:
        if entry.is_dir():
            inside = above | {(place.st_dev, place.st_ino)}
            yield from _walk(root, f"{below}{entry.name}/", inside)
