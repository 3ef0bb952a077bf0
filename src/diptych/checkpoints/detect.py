"""Which format weights are in: told by the names of the tensors, not by the names of the files."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from diptych.checkpoints import deepspeed, native
from diptych.checkpoints.fetch import SUFFIXES
from diptych.checkpoints.formats import FORMATS, Format, Source
from diptych.checkpoints.read import read_weights
from diptych.errors import CheckpointError

Side = Literal["image", "text"]


def detect(path: str | Path) -> str:
    """The name of the format at `path`: "native", "openai" (an OpenAI archive), or that of a
    published layout, of a whole model or an image tower alone.

    Raises CheckpointError if nothing is there, or nothing that Diptych reads.
    """
    path = Path(path)
    if native_folder(path):
        return "native"
    source = open_foreign(path)
    names = source.weights.tensors
    if source.weights.kind == "archive":
        return "openai"
    return (_whole(names) or _tower(names, "image") or match(names, path)).name


def native_folder(path: Path) -> Path | None:
    """The native checkpoint that `path` means: the folder itself, one of its two files, a run's
    newest; else None."""
    if path.name in (native.META, native.WEIGHTS) and native.is_native(path.parent):
        return path.parent
    if native.is_native(path) or (path / native.META).is_file():
        return path
    if (path / "checkpoints").is_dir():
        return native.newest(path)
    return None


def open_foreign(path: Path) -> Source:
    """The weights at `path`: a file, or a folder with one. Raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"there is no file or folder {path}")
    file = _weight_file(path) if path.is_dir() else path
    return Source(path=path, file=file, weights=read_weights(file))


def match(names: Collection[str], path: Path) -> Format:
    """The format of a whole model with these `names`. Raises CheckpointError, saying what each
    layout would have had, or what to do with a tower alone."""
    if found := _whole(names):
        return found
    for side in ("image", "text"):
        if found := _tower(names, side):
            reader = "read it with load_image_tower(), or " if side == "image" else ""
            raise CheckpointError(
                f"{path} holds the {side} tower of a model alone ({found.name}), with which no zero-shot is possible; "
                f"{reader}start a model's {side} tower from it (--model.{side}.init)"
            )
    tried = {found.name: found.lacks(names) for found in FORMATS if found.text}
    raise CheckpointError(f"{path} is in no layout that Diptych knows: {_compared(tried, names)}")


def match_tower(names: Collection[str], side: Side, path: Path) -> Format:
    """The format of a model, or of a tower alone, with these `names`, among which is the tower of
    this `side`. Raises CheckpointError, saying what each layout would have had."""
    if found := _whole(names) or _tower(names, side):
        return found
    groups = {found.name: _group(found, side) for found in FORMATS}
    partly = [found for found in FORMATS if set(groups[found.name]) & set(names)]
    if partly:  # its table names what it doesn't know
        return partly[0]
    tried = {name: group[0] for name, group in groups.items() if group}
    raise CheckpointError(
        f"{path} holds no {side} tower that Diptych knows: {_compared(tried, names)}"
    )


def _whole(names: Collection[str]) -> Format | None:
    return next((found for found in FORMATS if found.text and not found.lacks(names)), None)


def _tower(names: Collection[str], side: Side) -> Format | None:
    """The format that knows all `names`, among which is a tower of this `side`."""
    for found in FORMATS:
        if set(_group(found, side)) & set(names) and not found.table(names).unknown(names):
            return found
    return None


def _group(found: Format, side: Side) -> tuple[str, ...]:
    return found.image if side == "image" else found.text


def _compared(tried: dict[str, str], names: Collection[str]) -> str:
    expected = ", ".join(f"{name} would have {missing}" for name, missing in tried.items())
    return f"{expected}; its weights begin with {', '.join(list(names)[:3]) or 'nothing'}"


def _weight_file(folder: Path) -> Path:
    if merged := deepspeed.weight_file(folder):
        return merged
    preferred = [name for found in FORMATS for name in found.weight_files]
    files = [folder / name for name in preferred if (folder / name).is_file()]
    files = files or sorted(
        file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()
    )
    if not files:
        raise CheckpointError(f"{folder} holds no weights and is no run with a checkpoint")
    if len(files) > 1 and files[0].name not in preferred:
        raise CheckpointError(
            f"{folder} holds {len(files)} weight files; name one of them, such as {files[0].name}"
        )
    return files[0]
