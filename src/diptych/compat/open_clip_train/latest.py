"""Which checkpoint of a training loop is the newest."""

import re
from collections.abc import Iterable
from pathlib import Path

from diptych.compat.open_clip_train.file_utils import remote_checkpoints


def get_latest_checkpoint(path: str, remote: bool = False) -> str | None:
    """The last by its name, numbers counting as numbers: of the `.pt` files in a folder and below
    it, and of its folders `epoch_…` that torch.distributed.checkpoint has finished; None without
    one. Of a `remote` folder (`s3://…`), the `.pt` files in it, as `file_utils.remote_checkpoints`
    lists them.

    >>> from diptych.compat.open_clip_train.main import get_latest_checkpoint
    >>> get_latest_checkpoint("no-such-folder") is None
    True
    """
    if remote:
        return get_latest_file(path, remote)
    folders = (each.parent for each in Path(path).glob("epoch_*/.metadata"))
    return _last([*_files(path), *folders])


def get_latest_file(path: str, remote: bool = False) -> str | None:
    """The same of files alone, as open_clip 3.3 has it."""
    return _last(remote_checkpoints(path) if remote else _files(path))


def _files(path: str) -> Iterable[Path]:
    return Path(path).glob("**/*.pt")


def _last(found: Iterable[Path | str]) -> str | None:
    return max(map(str, found), key=natural_key, default=None)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Numbers before words, by their size."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
