"""What lies beside a picture, in a shard or in its folder: `KEY.json` and `KEY.txt`, as img2dataset
and people who caption pictures have it."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from diptych.bounded import parse_json, read_whole
from diptych.data.tar import index_tar
from diptych.errors import DataError
from diptych.search.pictures import Picture

_LONGEST = 1 << 20
"""Bytes of a sample's JSON, or of its caption."""
_MOST = 100
"""Values that are taken from a sample's JSON."""
CAPTION = "caption"

Places = Mapping[str, tuple[int, int]]
"""File ending -> (offset, length) in the shard."""


def with_neighbours(pictures: Iterable[Picture | None]) -> Iterator[tuple[Picture | None, Places]]:
    """Pictures with the files of their samples, if they lie in shards; neighbours in a shard have
    it walked once."""
    shard, found = "", dict[str, Places]()
    for picture in pictures:
        if picture is None or not picture.shard:
            yield picture, {}
            continue
        if picture.shard != shard:
            shard, found = picture.shard, _samples(picture.shard)
        yield picture, found.get(picture.path.removeprefix(f"{shard}/"), {})


def _samples(shard: str) -> dict[str, Places]:
    """KEY.ENDING of each member -> its sample's files; empty for what can't be read."""
    try:
        index = index_tar(Path(shard))
    except (DataError, OSError):
        return {}
    found = dict[str, Places]()
    for sample in range(len(index)):
        members = index.members(sample)
        beside = {ending: place for ending, place in members.items() if ending in ("json", "txt")}
        found |= {f"{index.key(sample)}.{ending}": beside for ending in members}
    return found


def read_beside(picture: Picture, places: Places) -> dict[str, object]:
    """The values of the JSON beside a picture, and the caption; what can't be read is left out."""
    values = dict[str, object]()
    if text := _read(picture, places, "txt"):
        values[CAPTION] = text.decode("utf-8-sig", "replace").strip()
    try:
        found = parse_json(_read(picture, places, "json") or b"{}")
    except ValueError:
        return values
    if isinstance(found, dict):
        values |= dict(list(found.items())[:_MOST])
    return values


def _read(picture: Picture, places: Places, ending: str) -> bytes:
    """Empty for what isn't there, or is too long."""
    with contextlib.suppress(OSError, ValueError):
        if not picture.shard:
            return read_whole(f"{os.path.splitext(picture.path)[0]}.{ending}", _LONGEST)
        offset, length = places.get(ending, (0, 0))
        if length <= _LONGEST:
            with open(picture.shard, "rb") as file:
                file.seek(offset)
                return file.read(length)
    return b""
