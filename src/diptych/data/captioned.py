"""Picture files whose captions lie in files of the same name.

`1.png` finds its caption in `1.txt`, or in the field `caption` of `1.json`, beside it or in a
folder of texts (`images/a/1.png` with `text/a/1.txt`): a folder of pairs is an unpacked shard.
"""

import codecs
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.bounded import parse_json, read_whole
from diptych.data.files import LONGEST_TEXT
from diptych.data.ids import KEY, text_of
from diptych.data.pictures import Contents
from diptych.data.source import Captioner, Source
from diptych.errors import DataError

_BOX = re.compile(r"\s*[-+.\deE]+(?:[\s,]+[-+.\deE]+){3,}\s*")
"""A line of numbers: where an object is, as detectors are trained on; no caption."""
_TRIED = 16

Texts = Mapping[str, Sequence[Path]]
"""Picture -> the files that may hold its captions."""


class CaptionedFiles(Source):
    """Picture files, given as paths below `root`, with the `texts` of each. Each line of a text is
    a caption; one is drawn."""

    def __init__(self, root: Path, pictures: Sequence[str], texts: Texts, captioner: Captioner):
        self.root, self._pictures, self._texts = root, tuple(pictures), texts
        self._captioner = captioner

    def __len__(self) -> int:
        return len(self._pictures)

    def where(self, index: int) -> tuple[str, str]:
        return str(self.root / self._pictures[index]), self._pictures[index]

    def files(self, index: int) -> tuple[str, ...]:
        """The picture, and the files that may hold its captions."""
        texts = self._texts.get(self._pictures[index], ())
        return (self.where(index)[0], *map(str, texts))

    def id_of(self, index: int, field: str) -> str:
        """The picture's path, or what its `.json` has in a field."""
        if field == KEY:
            return self._pictures[index]
        texts = self._texts.get(self._pictures[index], ())
        objects = [path for path in texts if path.suffix.lower() == ".json"]
        if objects and (text := text_of(_fields(objects[0]).get(field))):
            return text
        raise DataError(f"no file {Path(self._pictures[index]).stem}.json has a field {field!r}")

    def __getitem__(self, index: int) -> Sample:
        name = self._pictures[index]
        found = read_captions(self._texts.get(name, ()))
        captions = self._captioner.captions(found, None) if found else ()
        if self._captioner.needed and not captions:
            raise DataError(f"no caption: there is none in a file called {Path(name).stem}.txt")
        return Sample(
            key=name,
            image=str(self.root / name),
            captions=captions,
        )

    def describe(self) -> str:
        texts = " with captions in files of the same name" if self._texts else ""
        return f"{len(self):,} pictures{texts} in {self.root}"


def read_captions(files: Iterable[Path]) -> dict[str, Any]:
    """Ending -> the lines of the texts with that ending; where they hold none, field -> what the
    `.json` says. Raises DataError."""
    texts, objects = defaultdict[str, list[str]](list), list[Path]()
    for path in files:
        kind = path.suffix.lower().removeprefix(".")
        if kind == "json":
            objects.append(path)
        else:
            texts[kind] += [line for line in _lines(path) if line and not _BOX.fullmatch(line)]
    if any(texts.values()) or not objects:
        return dict(texts)
    return _fields(objects[0])


def _fields(path: Path) -> dict[str, Any]:
    try:
        fields = parse_json(read_whole(path, LONGEST_TEXT))
    except ValueError as error:
        raise DataError(f"{path} can't be read: {error}") from None
    return fields if isinstance(fields, dict) else {}


def _lines(path: Path) -> list[str]:
    try:
        data = read_whole(path, LONGEST_TEXT)
    except ValueError as error:
        raise DataError(f"{path} can't be read: {error}") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} isn't UTF-8: {error.reason} at byte {error.start}") from None
    return list(map(str.strip, text.splitlines()))


def match_texts(contents: Contents, captioner: Captioner) -> Texts:
    """The files beside a folder's pictures, in it or next to it, that hold their captions; empty
    where those looked at hold none."""
    texts = _Texts(captioner.keys)
    texts.add(contents.root, contents.others)
    inside = texts.of(contents)
    if _has_captions(inside, captioner):
        return inside
    for folder in _next_to(contents, texts.endings):
        beside, others = _Texts(captioner.keys), Contents.of(folder)
        beside.add(folder, others.others)
        outside = beside.of(contents)
        if not others.pictures and _has_captions(outside, captioner):
            return outside
    return {}


def _has_captions(texts: Texts, captioner: Captioner) -> bool:
    """Whether some of the files hold captions, or can't be read, which reading them then says."""
    step = max(1, len(texts) // _TRIED)
    for files in itertools.islice(texts.values(), 0, None, step):
        try:
            found = read_captions(files)
            if any(found.get(key) for key in captioner.keys):
                return True
        except (DataError, OSError):
            return True
    return False


class _Texts:
    """Files that may hold captions, by their folder and their name without its ending."""

    def __init__(self, keys: Sequence[str]):
        self.endings = (*(f".{key.lower()}" for key in keys), ".json")
        self._files = defaultdict[tuple[str, str], list[Path]](list)

    def add(self, root: Path, names: Iterable[str]) -> None:
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() in self.endings:
                self._files[os.path.split(stem)].append(root / name)

    def of(self, contents: Contents) -> Texts:
        """The texts of each picture that has some."""
        folders = self._folders(contents.picture_folders)
        found = dict[str, list[Path]]()
        for picture in contents.pictures:
            folder, name = os.path.split(picture)
            # The text of 1.png is 1.txt, or 1.png.txt.
            names = (os.path.splitext(name)[0], name)
            places = itertools.product(folders[folder], names)
            files = [path for place in places for path in self._files.get(place, ())]
            if files:
                found[picture] = files
        return found

    def _folders(self, of_pictures: Sequence[str]) -> dict[str, list[str]]:
        """Of each folder of pictures, the folders in which its texts may lie: itself, and folders
        of texts alone whose path is the same but for one folder's name."""
        alike = defaultdict[tuple[str, ...], list[str]](list)
        for folder in dict.fromkeys(folder for folder, _ in self._files):
            if folder not in of_pictures:
                for path in _without_one(folder):
                    alike[path].append(folder)
        found = dict[str, list[str]]()
        for folder in of_pictures:
            places = [folder]
            for path in _without_one(folder):
                places += alike.get(path, ())
            found[folder] = list(dict.fromkeys(places))
        return found


def _without_one(folder: str) -> Iterator[tuple[str, ...]]:
    """The folder's path, whole, and without each of its parts."""
    parts = tuple(folder.split("/")) if folder else ()
    yield parts
    for place in range(len(parts)):
        yield parts[:place] + parts[place + 1 :]


def _next_to(contents: Contents, endings: Sequence[str]) -> Iterator[Path]:
    """Folders beside the root (`../text`), and beside the one above it (`../../text/NAME`), that
    hold a text of its first picture."""
    root = contents.root.absolute()
    stem = os.path.splitext(contents.pictures[0])[0]
    above = [path / root.name for path in _folders_in(root.parent.parent)]
    for folder in (*_folders_in(root.parent), *above):
        if folder != root and any((folder / f"{stem}{ending}").exists() for ending in endings):
            yield folder


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
