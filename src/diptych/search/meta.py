"""What an index says about itself, who may write it, and what else may lie in its folder."""

import contextlib
import json
import os
import zlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from diptych.bounded import parse_json, read_text
from diptych.config.serialize import read_as
from diptych.durable import lock, naming, sweep, write_file
from diptych.encoder import Identity
from diptych.errors import ConfigError, DataError, beside, first_line
from diptych.search.rows import Places

FORMAT = 2
"""Format 1 had neither checksums nor digests nor relative paths. It is read, and written anew by
the next update."""


@dataclass(frozen=True, kw_only=True)
class IndexMeta:
    """What `meta.json` says, beside its own checksum."""

    model: Identity
    width: int
    vectors: Literal["float16", "float32"] = "float32"
    holds: Literal["pictures", "texts"] = "pictures"
    generation: int = 0
    parent: str = ""
    """The folder that the index lay in when its lines were written."""
    sources: tuple[str, ...] = ()
    """Folders, pictures and shards that were named to updates, written as pictures' paths are."""
    exclude: tuple[str, ...] = ()
    """Names that the last update left out."""
    format: int = FORMAT

    @property
    def seed(self) -> int:
        """Of the rows' checksums: vectors of another model don't agree."""
        return zlib.crc32(self.model.fingerprint.encode())


def parent_of(folder: str | os.PathLike[str]) -> str:
    """The folder that an index lies in."""
    return os.path.dirname(os.path.abspath(folder))


def places_of(folder: Path, meta: IndexMeta) -> Places:
    """Where the pictures of an index are looked for."""
    return Places(parent_of(folder), meta.parent)


def sources_of(folder: Path, meta: IndexMeta) -> list[str]:
    """Where the pictures of an index come from, as absolute paths."""
    places = places_of(folder, meta)
    return [os.path.normpath(places.absolute(source, source)) for source in meta.sources]


def written_sources(folder: Path, meta: IndexMeta, sources: Iterable[str]) -> tuple[str, ...]:
    """Such paths as `meta.json` has them: relative beside the index or below."""
    places = places_of(folder, meta)
    return tuple("." if path == places.now else places.relative(path) for path in sources)


def vectors_path(folder: Path, meta: IndexMeta) -> Path:
    """The file of the current generation's vectors."""
    return folder / f"vectors-{meta.generation}.npy"


def items_path(folder: Path, meta: IndexMeta) -> Path:
    """The file of the current generation's pictures."""
    return folder / f"items-{meta.generation}.jsonl"


def metadata_path(folder: Path, meta: IndexMeta) -> Path:
    """The file of what is known of the current generation's pictures; it may be missing."""
    return folder / f"metadata-{meta.generation}.parquet"


def corrupt(folder: Path, error: Exception | str) -> DataError:
    """What to say of an index that can't be read."""
    reason = error if isinstance(error, str) else first_line(error)
    return DataError(f"{folder} is corrupt ({reason}); delete it and embed again")


def _making(folder: Path) -> str:
    """The command for it. A folder that is there has pictures, and its index goes beside them."""
    pictures, out = (folder, f"{folder.name}.index") if folder.is_dir() else ("FOLDER", folder)
    return f"`diptych embed MODEL {pictures} --out {out}`"


def read_meta(folder: Path) -> IndexMeta:
    """Raises DataError if there is no index, or `meta.json` isn't as it was written."""
    try:
        values = parse_json(read_text(folder / "meta.json"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{folder} is not an index; make one with {_making(folder)}{beside(folder)}"
        ) from error
    except OSError as error:
        raise DataError(f"{folder} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise corrupt(folder, error) from error
    if not isinstance(values, dict) or values.get("format") not in (1, FORMAT):
        raise DataError(
            f"{folder} isn't an index of format {FORMAT}, which this version reads: embed again"
        )
    check = values.pop("check", None)
    if (check is not None or values["format"] == FORMAT) and check != _checksum(values):
        raise corrupt(folder, "meta.json has another checksum than it says")
    try:
        return read_as(IndexMeta, values, "meta.json")
    except ConfigError as error:
        raise corrupt(folder, error) from error


def write_meta(folder: Path, meta: IndexMeta) -> None:
    """Replace `meta.json`: the moment in which a new generation is the index."""
    values = asdict(meta)
    text = json.dumps(values | {"check": _checksum(values)}, indent=2) + "\n"
    write_file(folder / "meta.json", lambda path: path.write_text(text))


def _checksum(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def exists(folder: str | os.PathLike[str]) -> bool:
    """Whether there is an index; False for a folder that is empty, or that doesn't exist.

    Raises DataError for anything else, so that nothing is written into a folder of other things.
    """
    folder = Path(folder)
    if (folder / "meta.json").is_file():
        return True
    ours = {"lock", "vectors-0.npy", "items-0.jsonl", "metadata-0.parquet"}
    if os.path.lexists(folder) and (
        not folder.is_dir()
        or any(entry.name not in ours and not _unfinished(entry) for entry in folder.iterdir())
    ):
        raise DataError(f"{folder} exists and is not an index; choose another name")
    return False


def _unfinished(path: Path) -> bool:
    """Whether a killed writer left it."""
    return path.name.startswith((".meta.json.", ".metadata-0.parquet."))


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Generator[None, None, None]:
    """Be the only writer; a killed process lets go by itself. Raises DataError if another process
    is writing.

    Where the file system has no locks, two writers at once are the user's to avoid.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(lock(folder / "lock"))
        except BlockingIOError as error:
            raise DataError(
                f"another process is writing {folder} ({error.strerror}); wait until it has "
                "finished"
            ) from error
        if held:
            sweep(folder)
        stack.enter_context(naming(folder))
        yield


def sweep_generations(folder: Path, meta: IndexMeta) -> None:
    """Remove the files of other generations, older ones and what a kill left. Only for who holds
    the lock."""
    current = {vectors_path(folder, meta), items_path(folder, meta), metadata_path(folder, meta)}
    for pattern in ("vectors-*.npy", "items-*.jsonl", "metadata-*.parquet"):
        for path in {*folder.glob(pattern)} - current:
            path.unlink()
