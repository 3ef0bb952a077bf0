"""Incremental, resumable, and never two models in one index."""

import json
import os
import signal
import time

import numpy as np
import pytest

from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError, DataWarning
from diptych.search import Changes, Index, pictures, store, update, writer
from diptych.search import update as update_function
from diptych.search.pictures import Listing
from tests import tiny
from tests.forked import Script


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


def test_an_index_has_one_type_of_vectors(tmp_path, photos):
    update(tmp_path / "x.index", photos, tiny.encoder())
    with pytest.raises(ConfigError, match="holds vectors in float32; --half is for a new index"):
        update(tmp_path / "x.index", photos, tiny.encoder(), half=True)
    update(tmp_path / "y.index", photos, tiny.encoder(), half=True)
    assert counts(update(tmp_path / "y.index", photos, tiny.encoder())) == (0, 0, 0, 12)


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
    changes = update(tmp_path / "x.index", photos, tiny.encoder(), prune=True)
    assert counts(changes) == (0, 0, 12, 0)


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
    append = writer.Appender.append
    written = []

    def twice(self, pictures, rows):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(pictures))
        append(self, pictures, rows)

    monkeypatch.setattr(writer.Appender, "append", twice)
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
    process = Script(script, index, tmp_path / "photos", checkpoint)
    items = index / "items-0.jsonl"
    deadline = time.monotonic() + 60
    while (not items.exists() or items.stat().st_size == 0) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.signal(signal.SIGKILL)
    process.end()
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


@pytest.fixture
def index(tmp_path, photos):
    update(tmp_path / "x.index", photos, tiny.encoder())
    return tmp_path / "x.index"


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """Names of the pictures that are encoded from here on."""
    names = []
    prepare = Encoder._prepare

    def noting(self, item, read, name):
        names.append(os.path.basename(name(item)))
        return prepare(self, item, read, name)

    monkeypatch.setattr(Encoder, "_prepare", noting)
    return names


def swap(index, first: int, second: int) -> None:
    """Two vectors change places."""
    vectors = np.load(index / "vectors-0.npy")
    vectors[[first, second]] = vectors[[second, first]]
    np.save(index / "vectors-0.npy", vectors)


def test_what_is_damaged_is_made_again(index, photos, encoded):
    before = vectors(index)
    swap(index, 0, 5)
    changes = update(index, photos, tiny.encoder())
    assert (changes.damaged, counts(changes)) == (2, (2, 0, 0, 10))
    assert sorted(encoded) == ["0.png", "2.png"]
    after = vectors(index)
    assert after.keys() == before.keys()
    for path, vector in before.items():
        assert after[path] == pytest.approx(vector, abs=1e-6)
    assert update(index, photos, tiny.encoder()).damaged == 0


@pytest.mark.parametrize("lost", [0, 5, 11])
def test_a_lost_line_makes_no_neighbours(index, photos, lost):
    before = vectors(index)
    items = index / "items-0.jsonl"
    lines = items.read_bytes().splitlines(keepends=True)
    items.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    changes = update(index, photos, tiny.encoder())
    assert changes.damaged == 12 - lost
    after = vectors(index)
    assert len(store.Store(index)) == 12
    for path, vector in before.items():
        assert after[path] == pytest.approx(vector, abs=1e-6)


def test_what_is_damaged_elsewhere_is_made_again_too(index, photos, tmp_path):
    """An update of one folder doesn't forget what the index had of another."""
    tiny.write_pictures(tmp_path / "more", each=1)
    before = vectors(index)
    swap(index, 0, 5)
    changes = update(index, tmp_path / "more", tiny.encoder())
    assert (changes.damaged, changes.added) == (2, 4 + 2)
    after = vectors(index)
    assert len(after) == 16
    for path, vector in before.items():
        assert after[path] == pytest.approx(vector, abs=1e-6)


def test_a_search_leaves_out_what_is_damaged_and_says_so(index, photos):
    swap(index, 0, 5)
    opened = Index.open(index, tiny.encoder())
    with pytest.warns(DataWarning, match="2 of 12 entries of .*x.index are damaged, and left out"):
        hits = opened.search("a thing", 12)
    assert len(hits) == 10
    assert not {hit.path for hit in hits} & {
        str(photos / "blue/0.png"),
        str(photos / "green/2.png"),
    }
    query = tiny.encoder().embed_texts("a thing")[0]
    assert opened.median_score(query) == pytest.approx(
        float(np.median([hit.score for hit in hits])), abs=0.05
    )


def test_an_index_of_nothing_sound_is_not_searched(index, photos):
    np.save(index / "vectors-0.npy", np.load(index / "vectors-0.npy")[::-1])
    with pytest.raises(DataError, match="12 of 12 entries .* `diptych embed PICTURES --out`"):
        Index.open(index, tiny.encoder()).search("a thing")
    assert update(index, photos, tiny.encoder()).damaged == 12
    assert len(Index.open(index, tiny.encoder()).search("a thing", 20)) == 12


def test_a_folder_that_is_closed_empty_or_away_keeps_its_entries(index, photos, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path) == str(photos / "red"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    for path in (photos / "blue").iterdir():
        path.unlink()
    (photos / "green").rename(photos.parent / "green")
    (photos / "yellow" / "0.png").unlink()
    changes = update(index, photos, tiny.encoder())
    assert counts(changes) == (0, 0, 1, 2)
    assert changes.unreadable == [(str(photos / "red"), "Permission denied")]
    away = {str(photos / colour): 3 for colour in ("red", "blue", "green")}
    assert changes.absent == away
    assert len(store.Store(index)) == 11
    changes = update(index, photos, tiny.encoder(), prune=True)
    assert counts(changes) == (0, 0, 6, 2)
    assert changes.absent == {str(photos / "red"): 3}, "what can't be looked at may be there"


def test_a_changed_picture_that_cannot_be_read_keeps_its_entry(index, photos, monkeypatch):
    os.utime(photos / "red" / "0.png", (1, 1))

    def failing(path, mode):
        assert path == str(photos / "red" / "0.png")
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(pictures, "open", failing, raising=False)
    changes = update(index, photos, tiny.encoder())
    assert counts(changes) == (0, 0, 0, 11)
    assert changes.unreadable == [(str(photos / "red" / "0.png"), "Input/output error")]
    assert changes.absent == {str(photos / "red" / "0.png"): 1}
    monkeypatch.undo()
    assert counts(update(index, photos, tiny.encoder())) == (0, 0, 0, 12)


def test_an_empty_mount_point_drops_nothing(index, photos):
    photos.rename(photos.parent / "disk")
    photos.mkdir()
    changes = update(index, photos, tiny.encoder())
    assert (counts(changes), changes.absent) == ((0, 0, 0, 0), {str(photos): 12})
    photos.rmdir()
    with pytest.raises(DataError, match=r"there is no .*photos.* --prune"):
        update(index, photos, tiny.encoder())
    assert len(store.Store(index)) == 12
    (photos.parent / "disk").rename(photos)
    assert counts(update(index, photos, tiny.encoder())) == (0, 0, 0, 12)
    photos.rename(photos.parent / "disk")
    assert counts(update(index, photos, tiny.encoder(), prune=True)) == (0, 0, 12, 0)


def test_a_shard_that_cannot_be_read_keeps_its_entries(tmp_path):
    from tests.search.test_pictures import png, write_shard

    shard, index = tmp_path / "s" / "0.tar", tmp_path / "x.index"
    shard.parent.mkdir()
    write_shard(shard, {"1.png": png("red"), "2.png": png("blue")})
    update(index, shard.parent, tiny.encoder())
    good = shard.read_bytes()
    shard.write_bytes(b"nothing" * 1000)
    changes = update(index, shard.parent, tiny.encoder())
    assert (counts(changes), changes.absent) == ((0, 0, 0, 0), {str(shard): 2})
    shard.write_bytes(good[: len(good) // 4])
    update(index, shard.parent, tiny.encoder())
    assert len(store.Store(index)) == 2
    shard.write_bytes(good)
    assert counts(update(index, shard.parent, tiny.encoder())) == (0, 0, 0, 2)


def test_what_was_touched_renamed_or_moved_is_not_encoded_again(index, photos, encoded):
    before = vectors(index)
    os.utime(photos / "blue" / "0.png", (1, 1))
    (photos / "blue" / "1.png").rename(photos / "blue" / "one.png")
    (photos / "red").rename(photos / "rouge")
    changes = update(index, photos, tiny.encoder())
    assert encoded == []
    assert (counts(changes), changes.known) == ((4, 0, 1, 8), 4)
    assert changes.absent == {str(photos / "red"): 3}
    after = vectors(index)
    for old, new in (
        ("blue/0.png", "blue/0.png"),
        ("blue/1.png", "blue/one.png"),
        ("red/2.png", "rouge/2.png"),
    ):
        assert after[str(photos / new)] == before[str(photos / old)]
    changes = update(index, photos, tiny.encoder(), prune=True)
    assert (counts(changes), changes.absent) == ((0, 0, 3, 12), {})
    assert encoded == []


def test_a_moved_place_is_known_and_the_old_one_pruned(index, photos, tmp_path, encoded):
    photos.rename(tmp_path / "elsewhere")
    changes = update(index, tmp_path / "elsewhere", tiny.encoder(), prune=True)
    assert (counts(changes), changes.known, encoded) == ((12, 0, 12, 0), 12, [])
    assert len(store.Store(index)) == 12


def test_another_picture_of_the_same_length_and_time_is_encoded(tmp_path, encoded):
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        tiny.picture(colour).save(tmp_path / name / "1.bmp")
        os.utime(tmp_path / name / "1.bmp", (1, 1))
    update(tmp_path / "x.index", tmp_path / "a", tiny.encoder())
    update(tmp_path / "x.index", tmp_path / "b", tiny.encoder())
    assert encoded == ["1.bmp", "1.bmp"]
    [a, b] = vectors(tmp_path / "x.index").values()
    assert a != b


def test_pictures_that_move_with_their_index_are_found(index, photos, tmp_path, encoded):
    (tmp_path / "new").mkdir()
    for path in (index, photos):
        path.rename(tmp_path / "new" / path.name)
    moved = tmp_path / "new" / "x.index"
    hits = Index.open(moved, tiny.encoder()).search("a thing", 12)
    assert all(os.path.exists(hit.path) for hit in hits)
    assert counts(update(moved, tmp_path / "new" / "photos", tiny.encoder())) == (0, 0, 0, 12)
    assert encoded == []
    assert store.Store(moved).is_current


def test_an_old_index_gets_checksums_and_keeps_its_vectors(index, photos, encoded):
    before = vectors(index)
    lines = [json.loads(line) for line in (index / "items-0.jsonl").read_bytes().splitlines()]
    for line in lines:
        del line["check"], line["digest"]
        line["path"] = str(index.parent / line["path"])
    (index / "items-0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    description = json.loads((index / "meta.json").read_text()) | {"format": 1}
    del description["check"], description["parent"]
    (index / "meta.json").write_text(json.dumps(description))
    assert vectors(index) == before
    assert counts(update(index, photos, tiny.encoder())) == (0, 0, 0, 12)
    assert (vectors(index), encoded) == (before, [])
    assert store.Store(index).is_current


def test_an_index_that_another_process_made_meanwhile_is_kept(tmp_path, photos, monkeypatch):
    index, look = tmp_path / "x.index", Listing.add

    def slow(self, place):
        monkeypatch.undo()
        update(index, photos / "red", tiny.encoder())
        look(self, place)

    monkeypatch.setattr(Listing, "add", slow)
    update(index, photos / "blue", tiny.encoder())
    assert len(store.Store(index)) == 6


def test_what_a_kill_left_of_another_generation_is_swept(index, photos):
    for name in ("vectors-7.npy", "items-7.jsonl", "vectors-1.npy"):
        (index / name).write_bytes(b"x" * 100)
    update(index, photos, tiny.encoder())
    names = sorted(path.name for path in index.iterdir())
    assert names == ["items-0.jsonl", "meta.json", "metadata-0.parquet", "vectors-0.npy"]


def test_a_read_that_never_ends_does_not_keep_an_update_from_ending(tmp_path):
    """As from a disk of the network that is gone: Ctrl-C ends it, and what is done is kept."""
    tiny.write_pictures(tmp_path / "photos", each=4)
    checkpoint, index = tiny.save(tmp_path / "model"), tmp_path / "x.index"
    script = (
        "import os, sys, time; from diptych import load; from diptych.search import update\n"
        "from diptych.search.pictures import Picture\n"
        "read = Picture.read\n"
        "def stalling(self):\n"
        "    if 'yellow' in self.path:\n"
        "        os.write(1, b'waiting\\n'); time.sleep(1000)\n"
        "    return read(self)\n"
        "Picture.read = stalling\n"
        "update(sys.argv[1], sys.argv[2], load(sys.argv[3], 'cpu'), batch_size=4)"
    )
    process = Script(script, index, tmp_path / "photos", checkpoint)
    while "waiting" not in process.said():
        assert process.is_running()
        time.sleep(0.01)
    time.sleep(1)  # the others are encoded meanwhile
    process.signal(signal.SIGINT)
    process.end(60)  # of the thousand seconds that the read takes
    found = store.Store(index)
    assert (len(found) % 4, found.damaged) == (0, 0)
    assert 4 <= len(found) <= 12


def test_an_index_knows_what_its_updates_were_about(tmp_path, photos):
    index, encoder = tmp_path / "x.index", tiny.encoder()
    update(index, photos / "red", encoder, exclude=["1.*"])
    update(index, [photos / "blue" / "0.png", photos / "green"], encoder)
    opened = Index.open(index)
    assert opened.sources == [str(photos / p) for p in ("red", "blue/0.png", "green")]
    assert opened.exclude == ()
    update(index, photos, encoder, exclude=["1.*"])
    assert Index.open(index).sources == [str(photos)]
    assert Index.open(index).exclude == ("1.*",)


def test_its_sources_move_with_an_index_and_gone_ones_are_pruned(tmp_path, photos):
    index, encoder = photos / "x.index", tiny.encoder()
    tiny.write_pictures(tmp_path / "more", each=1)
    update(index, [photos, tmp_path / "more"], encoder)
    photos.rename(tmp_path / "moved")
    index = tmp_path / "moved" / "x.index"
    assert Index.open(index).sources == [str(tmp_path / "moved"), str(tmp_path / "more")]
    (tmp_path / "more").rename(tmp_path / "elsewhere")
    update(index, tmp_path / "moved", encoder)
    assert Index.open(index).sources == [str(tmp_path / "moved"), str(tmp_path / "more")]
    update(index, tmp_path / "moved", encoder, prune=True)
    assert Index.open(index).sources == [str(tmp_path / "moved")]


def test_progress_is_told_and_may_end_an_update(tmp_path, photos):
    index, told = tmp_path / "x.index", []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done > 6:
            raise InterruptedError

    (photos / "blue" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InterruptedError):
        update(index, photos, tiny.encoder(), batch_size=4, on_progress=stop)
    assert told[0] == (0, 13)
    assert 6 < told[-1][0] <= 9
    assert len(Index.open(index)) == 8
    told.clear()
    update(index, photos, tiny.encoder(), on_progress=lambda *now: told.append(now))
    assert told[-1] == (5, 5)
