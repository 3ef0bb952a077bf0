"""Which format weights are in: told by the names of the tensors, not by the names of the files."""

from collections.abc import Collection
from pathlib import Path

from diptych.checkpoints import native
from diptych.checkpoints.formats import FORMATS, Format, Source
from diptych.checkpoints.read import read_weights
from diptych.errors import CheckpointError

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


def detect(path: str | Path) -> str:
    """The name of the format at `path`: "native", "open-clip", "transformers" or "openai" (an OpenAI archive).

    Raises CheckpointError if nothing is there, or nothing that Diptych reads.
    """
    path = Path(path)
    if native_folder(path):
        return "native"
    source, found = open_foreign(path)
    return "openai" if source.weights.kind == "archive" else found.name


def native_folder(path: Path) -> Path | None:
    """The native checkpoint that `path` means: the folder itself, one of its two files, a run's newest; else None."""
    if path.name in (native.META, native.WEIGHTS) and native.is_native(path.parent):
        return path.parent
    if native.is_native(path) or (path / native.META).is_file():
        return path
    if (path / "checkpoints").is_dir():
        return native.newest(path)
    return None


def open_foreign(path: Path) -> tuple[Source, Format]:
    """The weights at `path` (a file, or a folder with one) and their format. Raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"there is no file or folder {path}")
    file = _weight_file(path) if path.is_dir() else path
    source = Source(path=path, file=file, weights=read_weights(file))
    return source, match(source.weights.tensors, path)


def match(names: Collection[str], path: Path) -> Format:
    """The format whose signature `names` bear. Raises CheckpointError saying what each layout would have had."""
    lacks = {candidate.name: candidate.lacks(names) for candidate in FORMATS}
    for candidate in FORMATS:
        if not lacks[candidate.name]:
            return candidate
    tried = ", ".join(f"{name} would have {missing}" for name, missing in lacks.items())
    first = ", ".join(list(names)[:3])
    raise CheckpointError(
        f"{path} is in no layout that Diptych knows: {tried}; its weights begin with {first or 'nothing'}"
    )


def _weight_file(folder: Path) -> Path:
    preferred = [name for candidate in FORMATS for name in candidate.weight_files]
    files = [folder / name for name in preferred if (folder / name).is_file()]
    files = files or sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not files:
        raise CheckpointError(f"{folder} holds no weights and is no run with a checkpoint")
    if len(files) > 1 and files[0].name not in preferred:
        raise CheckpointError(f"{folder} holds {len(files)} weight files; name one of them, such as {files[0].name}")
    return files[0]
