"""Indexes, tables of what is known of their pictures, and what the app is asked about them."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import torch
from starlette.testclient import TestClient

import diptych
import diptych.search
from diptych.search import Condition, Where
from diptych.search.export import export
from diptych.search.imported import import_index
from diptych.search.joined import join
from diptych.search.store import Store
from diptych.search.texts import update_texts
from tests import tiny
from tests.app.served import app_of, client_of
from tests.inputs.pictures import encoded, photo


def index(folder: Path) -> list[Path]:
    tiny.write_pictures(folder.parent / "pictures", each=1)
    diptych.Index.build(folder, folder.parent / "pictures", tiny.encoder())
    return [path for path in folder.iterdir() if path.name != "lock"]


def search(folder: Path) -> None:
    found = diptych.Index.open(folder, tiny.encoder())
    query = torch.ones(found.vectors.shape[1])
    found.search(query, top=2)
    found.search(query, top=2, where=Where(conditions=(Condition("width", ">", "1"),)))


def update(folder: Path) -> None:
    """Whatever was damaged: afterwards each picture has its own vector, or it was refused."""
    encoder, paths = tiny.encoder(), sorted((folder.parent / "pictures").rglob("*.png"))
    diptych.search.update(folder, folder.parent / "pictures", encoder)
    found = Store(folder)
    assert found.damaged == 0
    rows = {picture.path: row for row, picture in enumerate(found.pictures())}
    vectors = torch.from_numpy(found.vectors[[rows[str(path)] for path in paths]])
    assert torch.allclose(vectors, encoder.embed_images(paths), atol=1e-5)


def of_clip_retrieval(folder: Path) -> list[Path]:
    made = folder.parent / "made.index"
    index(made)
    export(diptych.Index.open(made), folder / "out")
    return sorted(path for path in (folder / "out").rglob("*") if path.is_file())


def imported(folder: Path) -> None:
    made = folder.parent / "imported.index"
    shutil.rmtree(made, ignore_errors=True)
    import_index(made, folder / "out", tiny.encoder())


def table(kind: str) -> Callable[[Path], list[Path]]:
    """A table that names the pictures, and has texts of its own."""

    def make(folder: Path) -> list[Path]:
        names = [f"{colour}/0.png" for colour in tiny.COLOURS]
        texts, years = [f"a {colour} thing" for colour in tiny.COLOURS], [2020, 2021, None, 2022]
        path = folder / f"known.{kind}"
        if kind == "parquet":
            pyarrow.parquet.write_table(pa.table({"path": names, "text": texts, "n": years}), path)
            return [path]
        rows = [{"path": name, "text": text, "n": n} for name, text, n in zip(names, texts, years)]
        if kind == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            comma = "," if kind == "csv" else "\t"
            lines = [comma.join(map(str, row.values())) for row in rows]
            path.write_text("\n".join([comma.join(rows[0]), *lines]) + "\n")
        return [path]

    return make


def join_table(folder: Path) -> None:
    """To the pictures, and as an index of the texts."""
    [path] = folder.glob("known.*")
    made = folder.parent / "joined.index"
    if not made.exists():
        index(made)
    shutil.rmtree(folder / "copy.index", ignore_errors=True)
    shutil.copytree(made, folder / "copy.index")
    join(folder / "copy.index", path)
    diptych.Index.open(folder / "copy.index", tiny.encoder()).search(torch.ones(128), top=1)


def texts_of_table(folder: Path) -> None:
    [path] = folder.glob("known.*")
    update_texts(folder / "texts.index", path, tiny.encoder())
    diptych.Index.open(folder / "texts.index", tiny.encoder()).search(torch.ones(128), top=1)


@functools.cache
def _client(place: Path) -> TestClient:
    index(place / "served.index")
    return client_of(app_of(place / "served.index"))


def asked(folder: Path) -> list[Path]:
    picture = next(iter(_client(folder.parent).post("/api/search", json={}).json()["hits"]))["id"]
    text = {"text": "2:red - snow", "terms": [{"picture": picture, "weight": -0.5}]}
    more = {"folders": ["*a*"], "where": ["width>=10"], "limit": 5, "offset": 0, "distinct": True}
    dates = {"after": "2020-05", "before": "2200", "larger": "1kB", "threshold": 0.1}
    labels = {"names": ["a", "b"], "picture": picture, "template": "a photo of a {}."}
    (folder / "search.json").write_text(json.dumps(text | more | dates))
    (folder / "labels.json").write_text(json.dumps(labels))
    (folder / "uploads.png").write_bytes(encoded(photo(20, 16), "PNG"))
    return sorted(folder.iterdir())


def ask(folder: Path) -> None:
    """What it can't do is the asker's mistake, said in JSON that a browser reads."""
    for path in sorted(folder.iterdir()):
        answer = _client(folder.parent).post(f"/api/{path.stem}", content=path.read_bytes())
        assert answer.status_code in (200, 400, 404, 413), answer.text
        answer.json()
