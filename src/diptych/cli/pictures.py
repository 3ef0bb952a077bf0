"""Pictures that a verb is about, and the table that it writes of them."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from diptych.cli.show import say
from diptych.errors import ConfigError, DataError
from diptych.exit_codes import ExitCode
from diptych.writable import check_file


def check_out(out: str) -> None:
    """Raises ConfigError for an `--out` of another kind, or where nothing can be written."""
    if Path(out).suffix not in (".csv", ".json"):
        raise ConfigError(f"--out {out}: say a file that ends in .csv or .json")
    check_file(Path(out).expanduser(), "--out")


def pictures_of(path: str, unread: list[str]) -> Iterator[tuple[str, str | bytes]]:
    """What each picture is called, and its file or bytes. What can't be looked at goes to `unread`.
    Raises DataError for a folder or a shard without any."""
    from diptych.data.tar import is_tar
    from diptych.search.pictures import Listing

    if not Path(path).is_dir() and not is_tar(path):
        yield path, path
        return
    start, listing = os.path.abspath(path), Listing()
    listing.add(start)
    lost = [left_out(place, reason) for place, reason in listing.unread.items()]
    if not listing.pictures:
        raise DataError(next(iter(lost), f"{path} holds no pictures"))
    unread += lost
    for picture in listing.pictures.values():
        below = os.path.relpath(picture.path, start)
        yield os.path.join(path, below), picture.read() if picture.shard else picture.path


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
            table = csv.writer(file, lineterminator="\n")
            table.writerow(names)
            table.writerows(rows)

    return write_file(path, write)
