"""Tables, above all the hub's parquet files: a picture and a label or captions in each row."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.data.source import Joined, Source
from diptych.data.tables import TABLE_ENDINGS, TableSource
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import several
from diptych.errors import DataError

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
        raise DataError(f"{paths[0]} can't be read: {error}") from None
    column = next((name for name in _LABELS if name in schema.names), None)
    if column is None:
        return None
    features = (
        json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        .get("info", {})
        .get("features", {})
    )
    feature: dict[str, Any] = features.get(column, {})
    if "names" in feature:
        return tuple(feature["names"])
    if not pyarrow.types.is_string(schema.field(column).type):
        return None
    values = {
        value
        for path in paths
        for value in parquet.read_table(path, columns=[column])[column].to_pylist()
    }
    return tuple(sorted(value for value in values if value))
