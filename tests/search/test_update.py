"""Incremental, resumable, and never two models in one index."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError
from diptych.search import Changes, Index, store, update
from diptych.search import update as update_function
from tests import tiny


@pytest.fixture
def photos(tmp_path):
    tiny.write_pictures(tmp_path / "photos")
    return tmp_path / "photos"


def counts(changes: Changes) -> tuple[int, int, int, int]:
    return changes.added, changes.changed, changes.removed, changes.kept


def vectors(index) -> dict[str, list[float]]:
    found = store.Store(index)
    return {
        picture.path: found.vectors[row].tolist() for row, picture in enumerate(found.pictures())
    }


def test_vectors_are_those_of_the_encoder(tmp_path, photos):
    assert counts(update(tmp_path / "x.index", photos, tiny.encoder())) == (12, 0, 0, 0)
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    expected = tiny.encoder().embed_images(paths).numpy()
    found = vectors(tmp_path / "x.index")
    assert list(found) == paths
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)


def test_only_what_is_new_or_changed_is_encoded(tmp_path, photos, monkeypatch):
    index = tmp_path / "x.index"
    update(index, photos, tiny.encoder())
    before = vectors(index)
    tiny.picture("red", 77).save(photos / "blue" / "new.png")
    tiny.picture("yellow", 5).save(photos / "red" / "0.png")
    (photos / "green" / "1.png").unlink()

    encoded = []
    prepare = type(tiny.encoder())._prepare
    monkeypatch.setattr(
        "diptych.encoder.encoder.Encoder._prepare",
        lambda self, item, read, name: (
            encoded.append(name(item)) or prepare(self, item, read, name)
        ),
    )
    assert counts(update(index, photos, tiny.encoder())) == (1, 1, 1, 10)
    assert sorted(encoded) == [str(photos / "blue" / "new.png"), str(photos / "red" / "0.png")]
    after = vectors(index)
    assert len(after) == 12
    assert after[str(photos / "red" / "0.png")] != before[str(photos / "red" / "0.png")]
    assert str(photos / "green" / "1.png") not in after
    assert all(
        after[path] == before[path] for path in after.keys() & before.keys() if "red/0" not in path
    )
    assert counts(update(index, photos, tiny.encoder())) == (0, 0, 0, 12)


def test_two_places_share_an_index(tmp_path, photos):
    index = tmp_path / "x.index"
    update(index, photos / "red", tiny.encoder())
    assert counts(update(index, photos / "blue", tiny.encoder())) == (3, 0, 0, 0)
    assert len(store.Store(index)) == 6


def test_bad_pictures_are_listed_and_left_out(tmp_path, photos):
    (photos / "red" / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    changes = update(tmp_path / "x.index", photos, tiny.encoder())
    assert counts(changes) == (12, 0, 0, 0)
    [(path, reason)] = changes.unreadable
    assert path == str(photos / "red" / "bad.jpg")
    assert reason


def test_models_are_not_mixed(tmp_path, photos):
    update(tmp_path / "x.index", photos, tiny.encoder(0))
    with pytest.raises(
        ConfigError, match="holds vectors of tiny 0 .* can't be mixed with those of tiny 1"
    ):
        update(tmp_path / "x.index", photos, tiny.encoder(1))
    with pytest.raises(ConfigError, match="can't be mixed"):
        Index.open(tmp_path / "x.index", tiny.encoder(1))


def test_a_typo_makes_no_index(tmp_path):
    with pytest.raises(DataError, match="there is no"):
        update(tmp_path / "x.index", tmp_path / "fotos", tiny.encoder())
    assert not (tmp_path / "x.index").exists()


def test_a_place_without_pictures_makes_no_index(tmp_path, photos):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"no pictures in .*notes, only \.txt 1"):
        update(tmp_path / "x.index", tmp_path / "notes", tiny.encoder())
    assert not (tmp_path / "x.index").exists()
    update(tmp_path / "x.index", photos, tiny.encoder())
    with pytest.raises(DataError, match="no pictures in"):
        update(tmp_path / "x.index", tmp_path / "notes", tiny.encoder())
    for picture in photos.rglob("*.png"):
        picture.unlink()
    assert counts(update(tmp_path / "x.index", photos, tiny.encoder())) == (0, 0, 12, 0)


def test_the_same_model_elsewhere_is_the_indexs_from_then_on(tmp_path, photos):
    def moved(place):
        return Encoder(tiny.model(), name=place)

    update(tmp_path / "x.index", photos, moved("one place"))
    assert counts(update(tmp_path / "x.index", photos, moved("another"))) == (0, 0, 0, 12)
    assert Index.open(tmp_path / "x.index").made_by.name == "another"


def test_a_folder_of_other_things_is_left_alone(tmp_path, photos):
    with pytest.raises(DataError, match="is not an index"):
        update(photos, photos, tiny.encoder())
    assert not (photos / "lock").exists()


def test_an_interrupted_update_goes_on(tmp_path, photos, monkeypatch):
    index = tmp_path / "x.index"
    append = store.Appender.append
    written = []

    def twice(self, pictures, rows):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(pictures))
        append(self, pictures, rows)

    monkeypatch.setattr(store.Appender, "append", twice)
    with pytest.raises(KeyboardInterrupt):
        update_function(index, photos, tiny.encoder(), batch_size=2, chunk=4)
    monkeypatch.undo()
    assert written == [4, 4]
    assert counts(update(index, photos, tiny.encoder())) == (4, 0, 0, 8)


def test_a_killed_update_loses_no_more_than_a_chunk(tmp_path):
    """kill -9 at a real process; then the index holds whole chunks, and the next update completes
    it."""
    tiny.write_pictures(tmp_path / "photos", each=100)
    checkpoint = tiny.save(tmp_path / "model")
    index = tmp_path / "x.index"
    script = (
        "import sys; from diptych import load; from diptych.search import update\n"
        "update(sys.argv[1], sys.argv[2], load(sys.argv[3], 'cpu'), batch_size=4, chunk=8)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(index), str(tmp_path / "photos"), str(checkpoint)]
    )
    items = index / "items-0.jsonl"
    deadline = time.monotonic() + 60
    while (not items.exists() or items.stat().st_size == 0) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    survived = len(store.Store(index))
    assert 8 <= survived < 400
    encoder = tiny.encoder()
    changes = update(index, tmp_path / "photos", encoder)
    assert counts(changes) == (400 - survived, 0, 0, survived)
    paths = sorted(str(path) for path in (tmp_path / "photos").rglob("*.png"))
    found = vectors(index)
    assert sorted(found) == paths
    np.testing.assert_allclose(
        [found[path] for path in paths], encoder.embed_images(paths).numpy(), atol=1e-5
    )
