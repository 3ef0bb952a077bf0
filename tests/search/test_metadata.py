"""What an index knows of its pictures, through everything that may happen to it."""

import io
import json
import os
import shutil
import sys
import tarfile
from datetime import datetime

import numpy as np
import pytest

from diptych.errors import DamageWarning
from diptych.search import Index, update
from diptych.search.entries import lengths, read_entries, written
from diptych.search.meta import metadata_path
from diptych.search.store import Store
from tests import tiny
from tests.inputs.test_header import photo


def known(index) -> dict[str, dict]:
    """The name of each picture, and what is known of it."""
    opened = Index.open(index)
    rows = [opened.metadata.of(row) for row in range(len(opened))]
    names = [os.path.basename(picture.path) for picture in opened._store.pictures()]
    return dict(zip(names, rows, strict=True))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(photo(taken="2024:05:31 12:30:00"))
    tiny.picture("red").save(folder / "b.png")
    (folder / "b.txt").write_text(" a red thing\n")
    (folder / "b.json").write_text(json.dumps({"year": 2020, "tags": ["x"], "width": 1}))
    return folder


CANON = {
    "width": 64,
    "height": 48,
    "taken": datetime(2024, 5, 31, 12, 30),
    "camera": "Canon EOS 5D",
}
RED = {"width": 40, "height": 30, "caption": "a red thing", "year": 2020}


def test_headers_and_what_lies_beside(tmp_path, photos):
    update(tmp_path / "x.index", photos, tiny.encoder())
    assert known(tmp_path / "x.index") == {"a.jpg": CANON, "b.png": RED}
    metadata = Index.open(tmp_path / "x.index").metadata
    date = datetime.fromtimestamp(os.stat(photos / "b.png").st_mtime // 1)
    assert metadata.column("date").to_pylist() == [CANON["taken"], date]
    assert metadata.column("pixels").to_pylist() == [64 * 48, 40 * 30]
    assert metadata.column("bytes").to_pylist()[1] == os.path.getsize(photos / "b.png")
    assert metadata.kinds["year"] == "number"
    assert "tags" not in metadata.kinds


def test_it_follows_pictures_that_are_added_renamed_and_removed(tmp_path, photos):
    index = tmp_path / "x.index"
    update(index, photos, tiny.encoder())
    (photos / "b.json").write_text('{"year": 1}')  # looked at once
    (photos / "a.jpg").unlink()
    (photos / "b.png").rename(photos / "c.png")
    tiny.picture("blue").save(photos / "d.png")
    update(index, photos, tiny.encoder())
    assert known(index) == {"c.png": RED, "d.png": {"width": 40, "height": 30}}
    tiny.picture("green", 3).resize((8, 9)).save(photos / "c.png")
    update(index, photos, tiny.encoder())
    assert known(index)["c.png"] == {"width": 8, "height": 9}
    assert len(list(index.glob("metadata-*"))) == 1


def test_an_index_of_before_gets_it_at_the_next_update(tmp_path, photos):
    index = tmp_path / "x.index"
    update(index, photos, tiny.encoder())
    store = Store(index)
    metadata_path(index, store.meta).unlink()
    assert known(index) == {"a.jpg": {}, "b.png": {}}
    assert Index.open(index).metadata.column("bytes").null_count == 0
    assert "pixels" not in Index.open(index).metadata.kinds
    update(index, photos, tiny.encoder())
    assert known(index) == {"a.jpg": CANON, "b.png": RED}


def test_an_update_that_was_stopped_is_completed(tmp_path, photos, monkeypatch):
    index = tmp_path / "x.index"
    update(index, photos, tiny.encoder())
    tiny.picture("blue").save(photos / "d.png")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["diptych.search.update"], "complete", lambda *_: None)
        update(index, photos, tiny.encoder())
    assert known(index)["d.png"] == {}
    (photos / "a.jpg").unlink()
    update(index, photos, tiny.encoder())
    assert known(index) == {"b.png": RED, "d.png": {"width": 40, "height": 30}}


@pytest.mark.parametrize("at", [10, -10])
def test_damage_is_said_and_mended(tmp_path, photos, at):
    index = tmp_path / "x.index"
    update(index, photos, tiny.encoder())
    path = metadata_path(index, Store(index).meta)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.warns(DamageWarning, match="metadata-0.parquet can't be read"):
        assert known(index) == {"a.jpg": {}, "b.png": {}}
    with pytest.warns(DamageWarning):
        update(index, photos, tiny.encoder())
    assert known(index) == {"a.jpg": CANON, "b.png": RED}


def test_samples_of_shards_have_their_json(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for number, values in enumerate([{"url": "http://a/b", "width": "x"}, ["no row"]]):
            stream = io.BytesIO()
            tiny.picture("red", number).save(stream, "PNG")
            members = {"png": stream.getvalue(), "json": json.dumps(values).encode()}
            if number:
                members |= {"txt": b"caption", "json": b"{" * 10_000}
            for ending, data in members.items():
                info = tarfile.TarInfo(f"0000{number}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    update(tmp_path / "x.index", tmp_path / "0.tar", tiny.encoder())
    size = {"width": 40, "height": 30}
    assert known(tmp_path / "x.index") == {
        "00000.png": {"url": "http://a/b", **size},
        "00001.png": {"caption": "caption", **size},
    }
    assert Index.open(tmp_path / "x.index").metadata.column("date").null_count == 2


def test_pictures_that_are_away_are_known_of_no_more_than_before(tmp_path, photos):
    index = tmp_path / "x.index"
    update(index, photos, tiny.encoder())
    shutil.rmtree(photos)
    photos.mkdir()
    update(index, photos, tiny.encoder())
    assert known(index) == {"a.jpg": CANON, "b.png": RED}


def test_a_line_that_is_no_picture_hides_no_other():
    good = [
        b'{"path": "a.jpg", "size": 3, "mtime_ns": 1700000000123456789, "digest": "x"}\n',
        b'{"path": "s.tar/1.jpg", "size": 9, "mtime_ns": 5, "shard": "s.tar", "length": 4}\n',
    ]
    bad = [b"no json\n", b"[1]\n", b"\n", b'{"path": "a"}{"path": "b"}\n', b"\xff\n"]
    odd = [b'{"path": "\\udcff.jpg", "size": "3", "mtime_ns": 99999999999999999999}\n']

    def read(lines):
        ends = np.cumsum(list(map(len, lines))).tolist()
        return read_entries(np.frombuffer(b"".join(lines), np.uint8), ends)

    assert read(good).to_pylist() == read([*good, *bad])[:2].to_pylist()
    entries = read([*good, *bad, *odd])
    assert entries["path"].to_pylist() == ["a.jpg", "s.tar/1.jpg", *[None] * 5, "?.jpg"]
    assert lengths(entries).to_pylist() == [3, 4, *[None] * 6]
    dates = written(entries).to_pylist()
    assert dates == [datetime.fromtimestamp(1700000000), *[None] * 7]
    assert read([]).num_rows == 0
