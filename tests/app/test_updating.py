"""An index is brought up to date while it is searched, here or by another program."""

import shutil
import threading
import time
from dataclasses import replace

import pytest

from diptych.durable import lock
from diptych.search import update
from diptych.search.meta import read_meta, write_meta
from tests import tiny
from tests.app.served import app_of, client_of, found


@pytest.fixture
def photos(tmp_path):
    return tmp_path / "photos"


@pytest.fixture
def held(monkeypatch):
    """An update stops at its first batch until it is let go."""
    go = threading.Event()
    vectors = type(tiny.encoder())._vectors

    def wait(self, pixels):
        if threading.current_thread().name == "update":
            go.wait(20)
        return vectors(self, pixels)

    monkeypatch.setattr("diptych.encoder.Encoder._vectors", wait)
    yield go
    go.set()


def until(done, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_searches_go_on_and_the_new_index_takes_the_old_ones_place(index, photos, held):
    client = client_of(app_of(index))
    old = found(client)
    for number in range(20):
        tiny.picture("red", 100 + number).save(photos / f"new-{number}.png")
    (photos / "blue" / "0.png").unlink()
    (photos / "broken.png").write_bytes(b"no picture")
    assert client.post("/api/update", json={}).status_code == 202
    again = client.post("/api/update", json={})
    assert (again.status_code, "under way" in again.json()["error"]) == (400, True)
    until(lambda: client.get("/api/status").json()["update"]["total"] == 21)
    assert found(client, text="red")["total"] == 12
    held.set()
    until(lambda: client.get("/api/status").json()["update"]["stage"] == "done")
    status = client.get("/api/status").json()
    assert status["update"]["said"] == "20 added, 1 removed, 1 unreadable"
    assert status["update"]["done"] == status["update"]["total"] == 21
    assert "broken.png" in status["update"]["unreadable"][0]
    assert (status["pictures"], status["version"]) == (31, old["version"] + 1)
    assert found(client)["total"] == 31


def test_rows_that_moved_are_noticed_and_parts_of_a_query_stay(index, photos):
    client = client_of(app_of(index))
    last = found(client)["hits"][-1]
    before = found(client, terms=[{"picture": last["id"]}])
    (photos / "blue" / "0.png").unlink()
    client.post("/api/update", json={})
    until(lambda: client.get("/api/status").json()["update"]["stage"] == "done")
    answer = client.get(f"/api/pictures/{last['id']}/thumbnail")
    assert (answer.status_code, "search again" in answer.json()["error"]) == (404, True)
    after = found(client, terms=[{"picture": last["id"]}])
    assert after["hits"][0]["path"] == before["hits"][0]["path"]


def test_an_update_that_is_stopped_keeps_what_it_did(index, photos, held):
    app = app_of(index)
    client = client_of(app)
    for number in range(20):
        tiny.picture("red", 100 + number).save(photos / f"new-{number}.png")
    client.post("/api/update", json={})
    client.post("/api/update/stop", json={})
    held.set()
    until(lambda: client.get("/api/status").json()["update"]["stage"] == "stopped")
    assert found(client)["total"] in (12, 20)  # at once, or after a batch
    client.post("/api/update", json={})
    until(lambda: client.get("/api/status").json()["update"]["stage"] == "done")
    assert found(client)["total"] == 32


def test_another_programs_update_is_in_the_way_in_one_sentence(index):
    client = client_of(app_of(index))
    with lock(index / "lock"):
        client.post("/api/update", json={})
        until(lambda: client.get("/api/status").json()["update"]["stage"] == "failed")
    assert "another process is writing" in client.get("/api/status").json()["update"]["said"]


@pytest.mark.parametrize("known", [False, True])
def test_places_that_are_not_known_or_not_there(index, photos, known):
    app = app_of(index)
    client = client_of(app)
    if known:
        photos.rename(photos.with_name("elsewhere"))
    else:
        meta = read_meta(index)
        write_meta(index, replace(meta, sources=()))
        app.library.reopen()
    answer = client.post("/api/update", json={})
    assert answer.status_code == 400
    assert ("is there now" if known else "diptych embed PICTURES") in answer.json()["error"]


@pytest.fixture
def watched(index, monkeypatch):
    """An app that looks at its index all the time, and what it said."""
    monkeypatch.setattr("diptych.app.library._PAUSE", 0.05)
    said, stop = [], threading.Event()
    app = app_of(index, said)
    thread = threading.Thread(target=app.library.watch, args=(stop,))
    thread.start()
    yield app, said
    stop.set()
    thread.join()


def test_an_update_by_another_program_is_noticed(watched, index, photos):
    app, _ = watched
    client = client_of(app)
    tiny.picture("red", 100).save(photos / "new.png")
    update(index, photos, tiny.encoder())
    until(lambda: found(client)["total"] == 13)
    assert client.get("/api/status").json()["version"] == 1


def test_places_that_another_program_adds_are_shown(watched, index, tmp_path):
    app, _ = watched
    client = client_of(app)
    tiny.write_pictures(tmp_path / "more", each=1)
    update(index, tmp_path / "more", tiny.encoder())
    until(lambda: found(client)["total"] == 16)
    [hit] = found(client, folders=[str(tmp_path / "more" / "red")])["hits"]
    assert client.get(f"/api/pictures/{hit['id']}/thumbnail").status_code == 200


def test_an_index_that_is_gone_or_damaged_is_said_once_and_what_is_open_stays(watched, index):
    app, said = watched
    client = client_of(app)
    shutil.move(index, index.with_name("away"))
    until(lambda: app.library.notice)
    assert found(client, text="red")["total"] == 12
    assert "is not an index" in client.get("/api/status").json()["notice"]
    index.mkdir()
    (index / "meta.json").write_text("{}")
    until(lambda: "format" in app.library.notice)
    time.sleep(0.3)
    assert len(said) == 2
    shutil.rmtree(index)
    shutil.move(index.with_name("away"), index)
    until(lambda: not app.library.notice)
    assert found(client, text="red")["total"] == 12
