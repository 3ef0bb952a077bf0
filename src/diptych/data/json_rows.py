"""Tables in JSON: an object a line, a list of objects, COCO's and Karpathy's files of captions, or
an object that gives each picture its captions."""

import codecs
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_whole
from diptych.data.files import LONGEST_TEXT, OpenFiles
from diptych.data.lines import filled, find_lines, mapped
from diptych.data.pictures import is_picture
from diptych.data.rows import Rows
from diptych.errors import DataError

_SHOWN = 8
_BOM = codecs.BOM_UTF8
_INDENT = 1000
_LONGEST = 1 << 30
"""Bytes of a file that is one piece of JSON."""


def open_json(path: Path) -> Rows:
    """The rows of a `.json` or `.jsonl` file, whichever way they lie in it. Raises DataError."""
    lines = _JsonLines(path)
    if lines.begin not in b"[{" or (lines.begin == b"{" and lines.hold_rows()):
        return lines.named()
    try:
        content = parse_json(read_whole(path, _LONGEST))
    except ValueError as error:
        raise DataError(
            f"{path} can't be read as JSON: {error}; an object a line (.jsonl) is read piece by "
            "piece"
        ) from None
    return _ListedRows(path, *_listed(content, path))


def _is_table(content: Mapping[str, Any]) -> bool:
    return "images" in content or all(map(is_picture, content))


def _listed(content: Any, path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """The rows of a whole file, and remarks."""
    try:
        if isinstance(content, list):
            return content, ()
        if "annotations" in content:
            return _coco(content), ()
        if "images" in content:
            return _karpathy(content)
        if content and all(map(is_picture, content)):
            return [{"image": name, "caption": text} for name, text in content.items()], ()
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} isn't a file of captions as expected: {error!r}") from None
    lists = [each for each in content.values() if isinstance(each, list)]
    if len(lists) == 1:
        return lists[0], ()
    shown = ", ".join(list(content)[:_SHOWN])
    raise DataError(
        f"{path} holds an object with {shown}; a table in JSON is a list of objects, an object a "
        "line, COCO's captions, or an object that gives each picture its captions"
    )


def _coco(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = defaultdict[Any, list[str]](list)
    for each in content["annotations"]:
        texts[each["image_id"]].append(each["caption"])
    return [
        {"image": image["file_name"], "caption": texts[image["id"]]}
        for image in content["images"]
        if image["id"] in texts
    ]


def _karpathy(content: Mapping[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    rows = list[dict[str, Any]]()
    for image in content["images"]:
        name = f"{image.get('filepath', '')}/{image['filename']}".lstrip("/")
        captions = [each["raw"] for each in image["sentences"]]
        rows.append({"image": name, "caption": captions, "split": image.get("split", "")})
    return rows, ()


class _ListedRows(Rows):
    """Rows in memory."""

    def __init__(self, path: Path, rows: Sequence[Any], remarks: tuple[str, ...]):
        self._rows, self.remarks, self._path = rows, remarks, path
        self.columns = _names(self)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        row = self._rows[index]
        if not isinstance(row, dict):
            raise DataError("the item is no JSON object")
        return row


class _JsonLines(Rows):
    """A line is found by its offset and parsed when asked for: opening is one scan, and a bad line
    is one bad sample."""

    def __init__(self, path: Path):
        self._path, self._files = path, OpenFiles()
        data = mapped(path)
        starts, ends = find_lines(data, len(_BOM) if data[:3].tobytes() == _BOM else 0, path)
        kept = filled(data, starts, ends)
        if not kept.any():
            raise DataError(f"{path} is empty")
        self._starts, self._lengths = starts[kept], (ends - starts)[kept]
        self.begin = data[self._starts[0] :][:_INDENT].tobytes().lstrip()[:1]

    def named(self) -> Rows:
        """With the columns' names."""
        self.columns = _names(self)
        return self

    def hold_rows(self) -> bool:
        """Whether these are rows: the first line is an object, or the two after it are; a line
        alone may be the whole table."""
        if len(self) == 1:
            with contextlib.suppress(DataError):
                return not _is_table(self._object(0, _LONGEST))
            return False
        return self._is_object(0) or (self._is_object(1) and self._is_object(2))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._object(index, LONGEST_TEXT)

    def _is_object(self, index: int) -> bool:
        with contextlib.suppress(DataError, IndexError):
            self[index]
            return True
        return False

    def _object(self, index: int, most: int) -> dict[str, Any]:
        data = self._files.read(
            self._path, int(self._starts[index]), int(self._lengths[index]), most
        )
        try:
            row = parse_json(data)
        except ValueError as error:
            raise DataError(f"the line can't be read as JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError("the line is no JSON object")
        return row


def _names(rows: Rows) -> tuple[str, ...]:
    """The columns' names. A row may lack a field, so several are asked."""
    found = list[Sequence[str]]()
    for index in range(min(100, len(rows))):
        with contextlib.suppress(DataError):
            found.append(tuple(rows[index]))
    return tuple(dict.fromkeys(itertools.chain.from_iterable(found)))
