"""Tables in JSON: an object a line, a list of objects, COCO's and Karpathy's files of captions, or
an object that gives each picture its captions."""

import contextlib
import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.files import OpenFiles
from diptych.data.pictures import is_picture
from diptych.data.rows import Rows
from diptych.errors import DataError

_SHOWN = 8


def open_json(path: Path) -> Rows:
    """The rows of a `.json` or `.jsonl` file, whichever way they lie in it. Raises DataError."""
    with path.open("rb") as file:
        head = next((line for line in file if not line.isspace()), b"").lstrip(b"\xef\xbb\xbf \t")
        more = any(not line.isspace() for line in file)
    if not head:
        raise DataError(f"{path} is empty")
    if head[:1] not in b"[{" or (head[:1] == b"{" and _is_row(head, alone=not more)):
        return _JsonLines(path)
    try:
        content: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} can't be read as JSON: {error}") from None
    return _ListedRows(path, *_listed(content, path))


def _is_row(line: bytes, alone: bool) -> bool:
    """Whether a line is a row of JSON lines; alone in its file, it may be the whole table."""
    with contextlib.suppress(ValueError):
        value = json.loads(line)
        return not alone or (isinstance(value, dict) and not _is_table(value))
    return False


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
        with path.open("rb") as file:
            lines = np.array([(len(line), not line.isspace()) for line in file], np.int64).reshape(
                -1, 2
            )
        lengths, filled = lines[:, 0], lines[:, 1].astype(bool)
        self._starts = (np.cumsum(lengths) - lengths)[filled]
        self._lengths = lengths[filled]
        self.columns = _names(self)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        data = self._files.read(self._path, int(self._starts[index]), int(self._lengths[index]))
        try:
            row = json.loads(data.lstrip(b"\xef\xbb\xbf"))
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
