"""Which checkpoint of a training loop is the newest."""

import re
from collections.abc import Iterable
from pathlib import Path

from diptych.errors import ConfigError


def get_latest_checkpoint(path: str, remote: bool = False) -> str | None:
    """The last by its name, numbers counting as numbers: of the `.pt` files in a folder and below
    it, and of its folders `epoch_…` that torch.distributed.checkpoint has finished; None without
    one. Raises ConfigError for a `remote` folder.

    >>> from diptych.compat.open_clip_train.main import get_latest_checkpoint
    >>> get_latest_checkpoint("no-such-folder") is None
    True
    """
    folders = (each.parent for each in Path(path).glob("epoch_*/.metadata"))
    return _last([*_files(path, remote), *folders])


def get_latest_file(path: str, remote: bool = False) -> str | None:
    """The same of files alone, as open_clip 3.3 has it."""
    return _last(_files(path, remote))


def _files(path: str, remote: bool) -> Iterable[Path]:
    if remote:
        raise ConfigError(f"{path} is remote, and nothing is fetched: name a mounted folder")
    return Path(path).glob("**/*.pt")


def _last(found: Iterable[Path]) -> str | None:
    return max(map(str, found), key=natural_key, default=None)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Numbers before words, by their size."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
