"""What a folder of weights may name beside itself: nothing but repositories of the hub.

A folder may be a stranger's. Its files lie in it; a link or a path that leads out of it could be
any file of this machine.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_whole
from diptych.errors import CheckpointError, ConfigError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_READ = (
    *(".json", ".safetensors", ".bin", ".pt", ".pth", ".txt", ".model", ".jinja"),
    *(".data", ".onnx", ".xml"),
)
"""Endings of what is read of a folder of weights."""
_DESCRIPTIONS = ("tokenizer_config.json", "config.json")
_DESCRIPTION = 1 << 24
"""Bytes of a description."""
_SNAPSHOTS = "snapshots"
"""In the hub's cache, `models--org--name/snapshots/COMMIT` holds links into `…/blobs`."""


_named = set[str]()
"""Folders that the program itself named."""


def name_folders(*names: object) -> None:
    """Those of `names` that are folders of this machine may be read from now on where a description
    says them: the program itself says them in a configuration of its own, and no stranger.

    >>> from diptych.inputs.strangers import check_repository, name_folders
    >>> name_folders(None, "/", "google-bert/bert-base-uncased")
    >>> check_repository("/", "tokenizer")
    '/'
    """
    _named.update(str(name) for name in names if name and Path(str(name)).is_dir())


def check_repository(name: str, what: str) -> str:
    """`name`, where it reads as a repository of the hub, or is a folder that the program named.
    Raises ConfigError for another path.

    >>> from diptych.inputs.strangers import check_repository
    >>> check_repository("google-bert/bert-base-uncased", "tokenizer")
    'google-bert/bert-base-uncased'
    """
    if name in _named:
        return name
    if not _REPOSITORY.fullmatch(name) or Path(name).exists():
        raise ConfigError(
            f"the {what} would be read from {name!r}, and a folder of weights may name nothing but "
            "repositories of the hub: name one there, or put the files beside the weights"
        )
    return name


def check_links(folder: Path) -> None:
    """Raises CheckpointError for a link by which a folder of weights would reach out of itself."""
    home = _home(folder)
    for path in folder.iterdir():
        if path.is_symlink() and path.suffix in _READ and not path.resolve().is_relative_to(home):
            raise CheckpointError(
                f"{path} is a link out of its folder, to {path.resolve()}, which isn't followed: a "
                "copied folder could reach any file so; put the file itself there, or name it"
            )


def check_paths(folder: Path) -> None:
    """Raises ConfigError for a folder of a tokenizer whose description names files elsewhere, which
    some versions of transformers would read."""
    if not folder.is_dir():
        return
    check_links(folder)
    for name in _DESCRIPTIONS:
        for key, value in _paths(folder / name):
            if Path(value).exists() and not Path(value).resolve().is_relative_to(_home(folder)):
                raise ConfigError(
                    f"{folder / name} names a file of this machine, {value} ({key}): a tokenizer's "
                    "files lie beside it"
                )


def _home(folder: Path) -> Path:
    home = folder.resolve()
    return home.parents[1] if home.parent.name == _SNAPSHOTS else home


def _paths(file: Path) -> Iterator[tuple[str, str]]:
    """What a description says of files, by the names of the fields."""
    try:
        content: Any = parse_json(read_whole(file, _DESCRIPTION))
    except (OSError, ValueError):
        return  # transformers says what is wrong
    for key, value in content.items() if isinstance(content, dict) else ():
        if key.endswith(("_file", "_files", "init_inputs")):
            yield from ((key, each) for each in _texts(value))


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str) and "\0" not in each]
