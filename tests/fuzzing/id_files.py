"""Files of ids, of each kind that `--data.keep` reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from diptych.data.keep import open_kept


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
