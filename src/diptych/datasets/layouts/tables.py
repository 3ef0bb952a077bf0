"""Tables, above all the hub's parquet files: a picture and a label or captions in each row."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from diptych.bounded import parse_json
from diptych.config.serialize import read_as
from diptych.data.joined import Joined
from diptych.data.source import Source
from diptych.data.tables import TABLE_ENDINGS, TableSource
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import several
from diptych.errors import DataError, first_line

_LABELS = ("cls", "label", "fine_label")


def read(wanted: Wanted) -> Found | None:
    """`SET/SPLIT*.parquet` (csv, tsv, jsonl), also one folder deeper, as in `SET/data/`; None where
    there are none."""
    for folder in wanted.folders:
        splits = several((wanted.split,))
        paths = [path for split in splits for path in _tables(folder, wanted.split_names(split))]
        if paths:
            labels = _labels(paths)
            words = (
                wanted.captioner
                if labels is None
                else replace(wanted.captioner, class_names=labels)
            )
            tables = [
                TableSource(
                    path, image_keys=("webp", "jpg", "png"), captioner=words, cache=wanted.cache
                )
                for path in paths
            ]
            source: Source = tables[0] if len(tables) == 1 else Joined(tables)
            return Found(layout="table", place=folder, source=source, labels=labels or ())
    return None


def _tables(folder: Path, names: tuple[str, ...]) -> list[Path]:
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for name in names:
            found = [path for path in place.glob(f"{name}*") if path.suffix in TABLE_ENDINGS]
            exact = [path for path in found if path.name.removeprefix(name)[0] in ".-_"]
            if exact:
                return sorted(exact)
    return []


def _labels(paths: list[Path]) -> tuple[str, ...] | None:
    """The classes' names: those that the hub keeps in a parquet file's header, or the strings of
    the label column."""
    if paths[0].suffix != ".parquet":
        return None
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(paths[0])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{paths[0]} can't be read: {first_line(error)}") from None
    column = next((name for name in _LABELS if name in schema.names), None)
    if column is None:
        return None
    if names := _names_of(schema.metadata or {}, column):
        return names
    if not pyarrow.types.is_string(schema.field(column).type):
        return None
    values = set[str]()
    for path in paths:
        try:
            values |= set(parquet.read_table(path, columns=[column])[column].unique().to_pylist())
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"the classes of {path} can't be read: {first_line(error)}") from None
    return tuple(sorted(value for value in values if value))


def _names_of(metadata: Mapping[bytes, bytes], column: str) -> tuple[str, ...]:
    """The names that the hub keeps; empty where there are none."""
    try:
        features = parse_json(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(read_as(list[str], features[column]["names"], "names"))
    except (ValueError, LookupError, TypeError):
        return ()
