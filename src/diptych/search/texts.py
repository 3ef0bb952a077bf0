"""Indexes of texts: captions that pictures, or other texts, find."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.bounded import read_whole
from diptych.data.rows import Columns
from diptych.encoder import Encoder
from diptych.encoder.progress import track
from diptych.errors import ConfigError, DataError
from diptych.search import meta, store, writer
from diptych.search.columns import column_of, rows_of, stacked, with_columns, write_table
from diptych.search.joined import open_table
from diptych.search.metadata import Metadata
from diptych.search.pictures import Picture, digest
from diptych.search.update import Changes, open_or_create

_KEYS = ("caption", "text", "txt", "title")
_TEXT = "text"
_LONGEST = 1 << 30
"""Bytes of a file of lines."""


def update_texts(
    folder: str | os.PathLike[str],
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    *,
    column: str = "",
    half: bool = False,
    chunk: int = 4096,
    progress: bool = False,
) -> Changes:
    """Make the index in `folder` hold exactly the texts of `sources`, beside those of other files:
    of a `.txt` its lines, of a table (csv, tsv, json, jsonl, parquet) a `column`, by default the
    first of some usual names; its other columns are what is known of them. Empty ones are left out.

    A text that the index has anywhere keeps its vector. Raises DataError for a file that can't be
    read or holds no text, ConfigError for a column that isn't there and for an index of pictures.

    >>> import tempfile
    >>> from diptych import Encoder, Index, models, pretrained
    >>> from diptych.search import update_texts
    >>> folder = tempfile.mkdtemp()
    >>> _ = Path(folder, "captions.txt").write_text("a cat\\na dog\\n")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> update_texts(f"{folder}/x.index", f"{folder}/captions.txt", encoder).added
    2
    >>> Index.open(f"{folder}/x.index", encoder).search_text("a dog")[0].picture.text
    'a dog'
    """
    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    paths = [os.path.abspath(source) for source in several]
    tables = {path: _table(Path(path), column) for path in dict.fromkeys(paths)}
    found = [entry for path, table in tables.items() for entry in _entries(path, table)]
    with meta.locked(folder):
        open_or_create(folder, encoder, half, "texts")
        writer.describe(folder, encoder.identity, list(tables), (), prune=False)
        changes, new = _settle(folder, tables.keys(), found)
        parts = ((new[at : at + chunk], None) for at in range(0, len(new), chunk))
        with writer.Appender(folder) as index:
            for some, _ in track(parts, "texts", len(new)) if progress and new else parts:
                index.append(some, encoder.embed_texts([entry.text for entry in some]))
                changes.added += len(some)
        _write_columns(folder, tables)
    return changes


def _settle(
    folder: str | os.PathLike[str], sources: Any, found: Sequence[Picture]
) -> tuple[Changes, list[Picture]]:
    """Let the index hold what stays: texts of other files, and those found that it has. What is to
    be encoded."""
    index, changes = store.Store(folder), Changes()
    had = {int(row): index.picture(int(row)) for row in np.flatnonzero(index.sound)}
    rows = {picture.digest: row for row, picture in had.items()}
    kept = [(row, picture) for row, picture in had.items() if picture.shard not in sources]
    taken = [(rows[entry.digest], entry) for entry in found if entry.digest in rows]
    before = {picture.path for picture in had.values()}
    changes.damaged = index.damaged
    changes.kept = sum(entry.path in before for _, entry in taken)
    changes.added = changes.known = len(taken) - changes.kept
    changes.removed = len(had) - len(kept) - changes.kept
    stays = [*kept, *taken]
    if index.damaged or not index.is_current or stays != list(had.items()):
        writer.rewrite(folder, stays)
    return changes, [entry for entry in found if entry.digest not in rows]


def _table(path: Path, column: str) -> Any:
    """A row for each text: the column `_TEXT`, and what else is known."""
    import pyarrow

    if path.suffix.lower() == ".txt":
        if column:
            raise ConfigError(f"--text-key {column}: {path} is a list of texts, without columns")
        table = pyarrow.table({_TEXT: column_of(_lines(path))})
    else:
        table = open_table(path)
        named = Columns(images=(), captions=_KEYS).caption_columns(table.column_names)
        key = column or next(iter(named), "")
        if key not in table.column_names:
            said = f"has no column {column}" if column else "has no column of texts by a usual name"
            names = ", ".join(table.column_names[:20])
            raise ConfigError(f"{path} {said}, only {names}; name one: --text-key COLUMN")
        texts = column_of(
            [None if value is None else str(value) for value in table[key].to_pylist()]
        )
        others = [name for name in table.column_names if name not in (key, _TEXT)]
        table = table.select(others).append_column(_TEXT, texts)
    if not any(text and text.strip() for text in table[_TEXT].to_pylist()):
        raise DataError(f"{path} holds no texts")
    return table


def _lines(path: Path) -> list[str]:
    try:
        return read_whole(path, _LONGEST).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except ValueError as error:
        raise DataError(f"{path} can't be read: {error}; write it as UTF-8") from None


def _entries(path: str, table: Any) -> Iterator[Picture]:
    """One for each text; FILE#ROW is what it is called."""
    status = os.stat(path)
    for row, text in enumerate(table[_TEXT].to_pylist(), 1):
        if text and text.strip():
            data = text.strip().encode()
            yield Picture(
                path=f"{path}#{row}",
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                shard=path,
                length=len(data),
                digest=digest(data),
                text=text.strip(),
            )


def _write_columns(folder: str | os.PathLike[str], tables: dict[str, Any]) -> None:
    """What else the tables know of the texts."""
    columns = [table.drop_columns([_TEXT]) for table in tables.values()]
    index = store.Store(folder)
    if not any(table.column_names for table in columns) and index.metadata is None:
        return
    starts = dict(zip(tables, np.cumsum([0, *map(len, columns)]).tolist()))
    rows = list[int]()
    for picture in index.pictures():
        number = int(picture.path.rpartition("#")[2])
        rows.append(starts[picture.shard] + number - 1 if picture.shard in starts else -1)
    known = with_columns(Metadata(index).table, rows_of(stacked(columns), rows))
    write_table(meta.metadata_path(index.folder, index.meta), known)
