"""An index for other programs: clip-retrieval's folder of npy and parquet, faiss, usearch.

OUT/img_emb/img_emb_0.npy, img_emb_1.npy, ...       npy: a million unit vectors each
OUT/image.index                                     faiss: IndexFlatIP, exact
OUT/image.usearch                                   usearch: HNSW, approximate
OUT/metadata/metadata_0.parquet, ...                always: the pictures, in the same order
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.durable import by_library, new_folder
from diptych.errors import ConfigError
from diptych.search.columns import clean, column_of, rows_of
from diptych.search.index import Index

Program = Literal["npy", "faiss", "usearch"]
_PART = 1_000_000
"""Rows of a file, as clip-retrieval writes them."""
_ROWS = 65536
_NAMES = {"img": "image", "text": "text"}
"""What clip-retrieval calls indexes of these."""


def export(index: Index, out: str | os.PathLike[str], to: Program = "npy") -> Path:
    """Write the folder `out`, whole or not at all; damaged entries are left out. Row i is picture i
    of the metadata, with its path (`image_path`; of a text `caption`) and all that is known.

    Raises ConfigError where `out` exists or the program's package isn't installed, OSError.

    >>> import tempfile
    >>> from PIL import Image
    >>> from diptych import Encoder, Index, models, pretrained
    >>> from diptych.search.export import export
    >>> folder = tempfile.mkdtemp()
    >>> Image.new("RGB", (60, 40)).save(f"{folder}/a.png")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> out = export(Index.build(f"{folder}/index", folder, encoder), f"{folder}/out")
    >>> np.load(out / "img_emb" / "img_emb_0.npy").shape
    (1, 128)
    """
    out = Path(out)
    if os.path.lexists(out):
        raise ConfigError(f"{out} exists; choose another name")
    kind = "text" if index.holds == "texts" else "img"
    rows = np.flatnonzero(index.among())
    with new_folder(out, replaceable=lambda _: False) as room:
        folder = room / out.name
        (folder / "metadata").mkdir(parents=True)
        match to:
            case "npy":
                _write_npy(index, rows, folder / f"{kind}_emb", kind)
            case "faiss":
                _write_faiss(index, rows, folder / f"{_NAMES[kind]}.index")
            case "usearch":
                _write_usearch(index, rows, folder / f"{_NAMES[kind]}.usearch")
        for number, part in enumerate(_parts(rows, _PART)):
            _write_metadata(index, part, folder / "metadata" / f"metadata_{number}.parquet")
    return out


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, max(1, len(rows)), size):
        yield rows[start : start + size]


def _write_npy(index: Index, rows: np.ndarray, folder: Path, kind: str) -> None:
    folder.mkdir()
    vectors = index.vectors.numpy()
    for number, part in enumerate(_parts(rows, _PART)):
        shape = (len(part), vectors.shape[1])
        with open(folder / f"{kind}_emb_{number}.npy", "wb") as file:
            header = {"descr": vectors.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for some in _parts(part, _ROWS):
                file.write(vectors[some].tobytes())


def _write_faiss(index: Index, rows: np.ndarray, path: Path) -> None:
    faiss = _imported("faiss", "faiss-cpu")
    flat = faiss.IndexFlatIP(index.vectors.shape[1])
    for some in _parts(rows, _ROWS):
        flat.add(index.vectors.numpy()[some].astype(np.float32))
    with by_library(path):
        faiss.write_index(flat, str(path))


def _write_usearch(index: Index, rows: np.ndarray, path: Path) -> None:
    graph = _imported("usearch.index", "usearch").Index(
        ndim=index.vectors.shape[1], metric="ip", dtype="f16"
    )
    for start, some in zip(range(0, len(rows), _ROWS), _parts(rows, _ROWS)):
        keys = np.arange(start, start + len(some))
        graph.add(keys, index.vectors.numpy()[some].astype(np.float32))
    with by_library(path):
        graph.save(str(path))


def _imported(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"--to {module.partition('.')[0]} needs another package: pip install {package}"
        ) from None


def _write_metadata(index: Index, rows: np.ndarray, path: Path) -> None:
    from pyarrow import parquet

    pictures = [index.picture(row) for row in rows.tolist()]
    table = rows_of(index.metadata.table, rows)
    own = {"image_path": [clean(picture.path) for picture in pictures]}
    if index.holds == "texts":
        own["caption"] = [picture.text for picture in pictures]
    table = table.select([name for name in table.column_names if name not in own])
    for name, values in own.items():
        table = table.add_column(0, name, column_of(values))
    parquet.write_table(table, path)
