"""Files of ids, of each kind that `--data.keep` reads, and what is kept of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data import open_source, write_shards
from diptych.data.keep import open_kept
from tests.inputs.pictures import encoded, photo


def make_ids(kind: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        path, uids = folder / f"ids.{kind}", ["0" * 31 + "1", "f" * 32, "cat/1.png"]
        if kind == "npy":
            np.save(path, np.array([(0, 1), (2, 3)], "u8,u8"))
        elif kind == "parquet":
            pyarrow.parquet.write_table(pa.table({"uid": uids, "n": [1, 2, 3]}), path)
        elif kind == "jsonl":
            path.write_text("".join(json.dumps({"uid": each}) + "\n" for each in uids))
        elif kind == "json":
            path.write_text(json.dumps(uids))
        else:
            path.write_text("uid,n\n" + "".join(f"{each},1\n" for each in uids))
        return [path]

    return make


def read_kept(folder: Path) -> None:
    [path] = folder.glob("ids.*")
    open_kept(str(path), "uid", folder / "cache")


_KEPT = ["00000001", "00000003", "00000003"]


def _kept_keys(folder: Path) -> list[str]:
    shards, ids = str(folder.parent / "shards"), str(folder.parent / "kept.txt")
    config = DataConfig(path=shards, keep=ids, keep_field="__key__", cache=str(folder))
    source = open_source(config, split="train")
    return [source.id_of(index, "__key__") for index in range(len(source))]


def make_kept(folder: Path) -> list[Path]:
    picture = encoded(photo(20, 16), "PNG")
    if not (folder.parent / "shards").exists():
        samples = 4 * [Sample(key="", image=picture, captions=("a",))]
        write_shards(folder.parent / "shards", samples)
        (folder.parent / "kept.txt").write_text("\n".join(_KEPT))
    assert _kept_keys(folder) == _KEPT
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def read_kept_again(folder: Path) -> None:
    """Whatever was damaged is made again."""
    assert _kept_keys(folder) == _KEPT
