"""Pictures that a verb is about, and the table that it writes of them."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diptych.cells import csv_rows
from diptych.cli.show import say
from diptych.config import DataConfig
from diptych.errors import ConfigError, DataError, ImageError, beside
from diptych.exit_codes import ExitCode
from diptych.writable import check_file

if TYPE_CHECKING:
    from diptych.data import Source


def check_out(out: str) -> None:
    """Raises ConfigError for an `--out` of another kind, or where nothing can be written."""
    if Path(out).suffix not in (".csv", ".json"):
        raise ConfigError(f"--out {out}: say a file that ends in .csv or .json")
    check_file(Path(out).expanduser(), "--out")


class Item(NamedTuple):
    """A picture that is read when it is its turn."""

    called: str
    read: Callable[[], str | bytes]
    """Its file or its bytes. Raises ImageError or OSError."""


def items_of(
    paths: Iterable[str], unread: list[str], image_key: str = DataConfig.image_key
) -> list[Item]:
    """The pictures of files, folders, shards, tables (of which `image_key` is the column) and
    patterns of such, in order. What can't be looked at goes to `unread`. Raises DataError for a
    folder, a table or a shard without any."""
    from diptych.data.tables import is_table
    from diptych.data.tar import is_tar
    from diptych.search.pictures import expanded

    found = list[Item]()
    for path in itertools.chain.from_iterable(map(expanded, paths)):
        if os.path.isdir(path) or is_tar(path):
            found += _listed(path, unread)
        elif is_table(Path(path)):
            found += _rows(path, unread, image_key)
        elif os.path.lexists(path) or "://" in path:
            found.append(Item(path, partial(str, path)))
        else:
            unread.append(f"{path} doesn't exist{beside(path)}")
    return found


def pictures_of(path: str, unread: list[str]) -> Iterator[tuple[str, str | bytes]]:
    """What each picture is called, and its file or bytes: `items_of`, one after the other; what
    can't be read goes to `unread`, too."""
    tried = list[Item]()
    for image in read(items_of([path], unread), unread, tried):
        yield tried.pop().called, image


def read(items: Iterable[Item], unread: list[str], tried: list[Item]) -> Iterator[str | bytes]:
    """Their files or bytes, one after the other. What can't be read goes to `unread`, all else to
    `tried`."""
    for item in items:
        try:
            image = item.read()
        except (OSError, ImageError) as error:
            unread.append(left_out(item.called, str(error)))
            continue
        tried.append(item)
        yield image


def _listed(path: str, unread: list[str]) -> Iterator[Item]:
    from diptych.search.pictures import Listing

    start, listing = os.path.abspath(path), Listing()
    listing.add(start)
    lost = [left_out(place, reason) for place, reason in listing.unread.items()]
    if not listing.pictures:
        if any(Path(path, mark).is_file() for mark in ("run.json", "model.json")):
            raise DataError(f"{path} is a model, and no pictures: a model stands before them")
        only = f" that are read, only {kinds_of(listing.others)}" if listing.others else ""
        raise DataError(next(iter(lost), f"{path} holds no pictures{only}"))
    unread += lost
    if listing.others:
        say(f"not pictures that are read: {kinds_of(listing.others)}", error=True)
    for picture in listing.pictures.values():
        called = os.path.join(path, os.path.relpath(picture.path, start))
        yield Item(called, picture.read if picture.shard else partial(str, picture.path))


def _rows(path: str, unread: list[str], image_key: str) -> Iterator[Item]:
    from diptych.data import open_source
    from diptych.data.ids import KEY

    source = open_source(DataConfig(path=path, image_key=image_key), alone=True, flags="--")
    if not len(source):
        raise DataError(f"{path} holds no pictures")
    unread += [left_out(f"{bad.file}, {bad.key}", bad.reason) for bad in source.bad_samples]
    for row in range(len(source)):
        try:
            named = source.id_of(row, KEY)
        except DataError as error:
            unread.append(f"{path}, row {row}: {error}")
            continue
        yield Item(f"{path}/{row}" if named == str(row) else named, partial(_image, source, row))


def _image(source: "Source", row: int) -> str | bytes:
    try:
        return source[row].image
    except DataError as error:
        raise ImageError(str(error)) from error


def kinds_of(others: Mapping[str, int]) -> str:
    """Files by their endings, and how many there are of each."""
    return ", ".join(f"{ending} {count}" for ending, count in sorted(others.items()))


def left_out(called: str, reason: str) -> str:
    """A sentence on a picture that couldn't be read."""
    return reason if called in reason else f"{called}: {reason}"


def tell_left_out(unread: Sequence[str], read: int) -> ExitCode:
    """Say what was left out; the exit code where `read` pictures could be read."""
    for line in unread:
        say(f"left out: {line}", error=True)
    if not unread:
        return ExitCode.DONE
    return ExitCode.PARTLY if read else ExitCode.REFUSED


def write_rows(out: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A table, or a JSON list. Raises OSError."""
    from diptych.durable import write_file

    path = Path(out).expanduser()

    def write(target: Path) -> None:
        with open(target, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if path.suffix == ".json":
                json.dump([dict(zip(names, row, strict=True)) for row in rows], file, indent=1)
                return
            table = csv_rows(file)
            table.writerow(names)
            table.writerows(rows)

    return write_file(path, write)
