"""What the API answers, to friends and to strangers."""

import io
import json
import os
import re
import shutil
import time

import pytest
from PIL import Image
from torch.nn.functional import normalize

from diptych.app import App, asked
from diptych.app.api import ENDPOINTS
from diptych.errors import ConfigError
from diptych.search import (
    Index,
    Picture,
    Query,
    Where,
    duplicates,
    meta,
    update,
    update_texts,
    writer,
)
from tests import tiny
from tests.app.served import app_of, client_of, found


def names(answer: dict) -> list[str]:
    return [hit["path"] for hit in answer["hits"]]


def photo(colour: str = "red") -> bytes:
    file = io.BytesIO()
    tiny.picture(colour).save(file, "PNG")
    return file.getvalue()


def test_a_text_finds_what_the_index_finds(client, kept_index):
    expected = Index.open(kept_index, tiny.encoder()).search(Query.from_text("red - 0.5:blue"), 5)
    answer = found(client, text="red - 0.5:blue", limit=5)
    assert names(answer) == [hit.path for hit in expected]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(
        [hit.score for hit in expected], abs=1e-4
    )
    assert answer["typed"] == [{"text": "red", "weight": 1}, {"text": "blue", "weight": -0.5}]
    assert answer["total"] == 12
    assert -1 <= answer["typical"] <= answer["hits"][0]["score"]


def test_pages_follow_each_other_to_the_end(client, monkeypatch):
    monkeypatch.setattr("diptych.app.ranking._FIRST", 4)
    whole = found(client, text="a green one", limit=500)
    assert whole["next"] is None
    pages, offset = [], 0
    while offset is not None:
        page = found(client, text="a green one", limit=5, offset=offset)
        pages += names(page)
        offset = page["next"]
    assert pages == names(whole)
    everything = found(client, limit=500)
    assert names(everything) == sorted(names(whole))
    assert everything["hits"][0]["score"] is None


def test_pictures_and_uploads_are_added_and_subtracted(client, kept_index):
    hits = found(client)["hits"]
    red = next(hit for hit in hits if "red/1" in hit["path"])
    upload = client.post("/api/uploads", content=photo("blue")).json()["upload"]
    like_it = found(client, terms=[{"picture": red["id"]}])
    assert names(like_it)[0] == red["path"]
    assert like_it["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    terms = [{"picture": red["id"], "weight": 2}, {"upload": upload, "weight": -1}]
    index = Index.open(kept_index)
    row = int(red["id"].split("-")[0])
    vector = 2 * index.vectors[row] - tiny.encoder().embed_images(photo("blue"))[0]
    expected = index.search(normalize(vector, dim=0), 12)
    assert names(found(client, terms=terms)) == [hit.path for hit in expected]
    small = client.get(f"/api/uploads/{upload}/thumbnail")
    assert Image.open(io.BytesIO(small.content)).size == (40, 30)


def doubles(client, **asked) -> dict:
    """Once they are found."""
    for _ in range(600):
        answer = client.post("/api/duplicates", json=asked)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert answer.json()["done"] <= answer.json()["pictures"]
        time.sleep(0.05)
    raise AssertionError("no near duplicates")


def test_near_duplicates_of_the_whole_index(client, kept_index):
    expected = sorted(
        duplicates(Index.open(kept_index)), key=lambda group: len(group.others), reverse=True
    )
    assert len(expected) > 1
    whole = doubles(client)
    assert (whole["total"], whole["next"]) == (len(expected), None)
    assert whole["alike"] == sum(len(group.others) for group in expected)
    for group, shown in zip(expected, whole["groups"], strict=True):
        kept, *others = shown["hits"]
        assert shown["size"] == 1 + len(others)
        assert (kept["path"], kept["score"]) == (group.kept.path, None)
        assert [hit["path"] for hit in others] == [other.picture.path for other in group.others]
        assert others[0]["score"] == pytest.approx(group.others[0].score, abs=1e-4)
    first = doubles(client, limit=1)
    assert (first["groups"], first["next"]) == (whole["groups"][:1], 1)
    assert doubles(client, limit=1, offset=1)["groups"] == whole["groups"][1:2]
    assert client.post("/api/duplicates", json={"limit": 0}).status_code == 400


def test_near_duplicates_are_those_of_the_index_that_is_open(index):
    app = app_of(index)
    client = client_of(app)
    before = doubles(client)
    shutil.copy(index.parent / "photos" / "red" / "0.png", index.parent / "photos" / "copy.png")
    update(index, index.parent / "photos", tiny.encoder())
    app.library.reopen()
    after = doubles(client)
    assert after["version"] == before["version"] + 1
    assert after["alike"] == before["alike"] + 1
    assert any(hit["copy"] for group in after["groups"] for hit in group["hits"])


def test_a_threshold_ends_the_answer(client):
    whole = found(client, text="red")
    edge = whole["hits"][3]["score"]
    cut = found(client, text="red", threshold=edge - 1e-4)
    assert (len(cut["hits"]), cut["next"]) == (4, None)


def test_filters_are_those_of_the_command_line(client, kept_index):
    red = found(client, text="red", folders=["*red*"])
    assert red["total"] == len(red["hits"]) == 3
    assert all("/red/" in path for path in names(red))
    index = Index.open(kept_index)
    where = Where.of(["*red*", "*blue*"], after="2020", conditions=["width=40", "path~0.png"])
    asked = {"folders": ["*red*", "*blue*"], "after": "2020", "where": ["width=40", "path~0.png"]}
    assert found(client, text="red", **asked)["total"] == index.count(where) == 2
    assert names(found(client, **asked)) == [
        str(kept_index.parent / "photos" / colour / "0.png") for colour in ("blue", "red")
    ]
    nothing = found(client, text="red", larger="1GB")
    assert (nothing["total"], nothing["hits"], nothing["next"]) == (0, [], None)
    assert client.get("/api/status").json()["columns"]["width"] == "number"
    hit = found(client)["hits"][0]
    known = client.get(f"/api/pictures/{hit['id']}").json()["known"]
    assert (known["width"], known["height"]) == (40, 30)


def test_near_duplicates_are_left_out_and_counted(index, tmp_path, monkeypatch):
    monkeypatch.setattr("diptych.app.ranking.ALIKE", 0.9999)
    for number in range(3):
        shutil.copy(tmp_path / "photos/red/0.png", tmp_path / f"photos/copy-{number}.png")
    update(index, tmp_path / "photos", tiny.encoder())
    client = client_of(app_of(index))
    assert len(found(client, text="red")["hits"]) == 15
    one = found(client, text="red", distinct=True)["hits"]
    assert len(one) == 12
    assert {hit["name"]: hit["alike"] for hit in one if hit["alike"]} == {"0.png": 3}
    pages = [found(client, text="red", distinct=True, limit=5, offset=at) for at in (0, 5, 10)]
    assert [name for page in pages for name in names(page)] == [hit["path"] for hit in one]


def test_a_text_opens_no_file(client, kept_index):
    path = str(kept_index.parent / "photos" / "red" / "0.png")
    for text in (path, "/etc/passwd", "http://localhost/x.png", "x.jpg", "x.tar/y.jpg"):
        assert found(client, text=text)["typed"] == [{"text": text, "weight": 1}]


def test_a_text_that_is_too_long_is_remarked(client):
    assert found(client, text="red")["remark"] == ""
    assert "longer than the context" in found(client, text="red " * 60)["remark"]


def test_thumbnails_are_small_and_made_once(index, tmp_path):
    large = tmp_path / "photos" / "red" / "large.png"
    Image.effect_noise((1500, 2000), 50).save(large)
    update(index, tmp_path / "photos", tiny.encoder())
    client = client_of(app_of(index))
    hit = next(hit for hit in found(client)["hits"] if hit["name"] == "large.png")
    for kind, side in (("thumbnail", 360), ("preview", 1600)):
        answer = client.get(f"/api/pictures/{hit['id']}/{kind}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert max(Image.open(io.BytesIO(answer.content)).size) == side
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "thumbnails").glob("*.jpg")}
    assert len(kept) == 2
    assert client.get(f"/api/pictures/{hit['id']}/thumbnail").status_code == 200
    etag = {"If-None-Match": answer.headers["etag"]}
    assert client.get(f"/api/pictures/{hit['id']}/preview", headers=etag).status_code == 304
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "gps" not in answer.headers
    large.unlink()
    answer = client.get(f"/api/pictures/{hit['id']}/thumbnail")
    assert answer.status_code == 404
    assert "can't be read" in answer.json()["error"]
    assert next(hit for hit in found(client)["hits"] if hit["name"] == "large.png")["gone"]


@pytest.mark.parametrize("what", ["file", "folder", "shown before"])
def test_links_that_lead_out_are_refused(index, tmp_path, what):
    """Also where what they lead to is a picture, and was indexed through the link."""
    photos, outside = tmp_path / "photos", tmp_path / "outside"
    outside.mkdir()
    tiny.picture("red", 99).save(outside / "secret.png")
    link = photos / "red" / "0.png"
    client = client_of(app_of(index))
    hit = next(hit for hit in found(client)["hits"] if hit["path"] == str(link))
    if what == "shown before":
        assert client.get(f"/api/pictures/{hit['id']}/thumbnail").status_code == 200
    if what == "folder":
        shutil.move(photos / "red", outside / "red")
        (photos / "red").symlink_to(outside / "red")
    else:
        link.unlink()
        link.symlink_to(outside / "secret.png")
        update(index, photos, tiny.encoder())
        client = client_of(app_of(index))
        hit = next(hit for hit in found(client)["hits"] if hit["path"] == str(link))
    for kind in ("thumbnail", "preview", "square", "map?text=red", "why?text=red"):
        answer = client.get(f"/api/pictures/{hit['id']}/{kind}")
        assert answer.status_code == 404
        assert "leads out" in answer.json()["error"]


def test_what_has_changed_since_is_not_shown(index, tmp_path):
    client = client_of(app_of(index))
    hit = found(client)["hits"][0]
    tiny.picture("yellow", 77).save(hit["path"])
    answer = client.get(f"/api/pictures/{hit['id']}/preview")
    assert (answer.status_code, "has changed" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    "name",
    [
        "0",
        "0-0123456789abcdef",
        "999999999999-0123456789abcdef",
        "-1-0123456789abcdef",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "0-0123456789abcdef%00.png",
        "0-0123456789abcdef%0a",
        "٠-0123456789abcdef",
        "a" * 5000,
    ],
)
def test_pictures_have_no_paths(client, name):
    for address in (f"/api/pictures/{name}/thumbnail", f"/api/uploads/{name}/thumbnail"):
        assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/..%2f__init__.py", "/static/app.js", "//etc/passwd", "/x"],
)
def test_no_other_file_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"text": "half \\ud800"}', "not JSON"),
        (b"[" * 50_000, "nested too deeply"),
        (b'"red"', "must be an object"),
        (b'{"text": 1}', "must be a text"),
        (b'{"limit": 0}', "limit"),
        (b'{"limit": 501}', "limit"),
        (b'{"limit": 1e400}', "limit"),
        (b'{"offset": -1}', "offset"),
        (b'{"offset": 1' + b"0" * 400 + b"}", "digits"),
        (b'{"threshold": NaN}', "NaN"),
        (b'{"terms": [{}]}', "one of text, picture and upload"),
        (b'{"terms": [{"text": "a", "picture": "b"}]}', "one of text, picture and upload"),
        (b'{"terms": [{"text": "a", "weight": 0}]}', "weight"),
        (b'{"terms": [{"text": "a", "weight": 1e39}]}', "weight"),
        (b'{"terms": [{"text": "a"}, {"text": "a", "weight": -1}]}', "cancel out"),
        (b'{"path": "/etc/passwd"}', "no field 'path'"),
        (b'{"where": ["height"]}', "no condition"),
        (b'{"where": ["heigth>1"]}', "did you mean 'height'"),
        (b'{"after": "yesterday"}', "dates"),
        (b'{"larger": "huge"}', "no size"),
        (json.dumps({"where": ["width>1"] * 21}).encode(), "20 folders and conditions"),
        (json.dumps({"text": "a" * 1001}).encode(), "1,000 letters"),
        (json.dumps({"terms": [{"text": "a"}] * 21}).encode(), "20 terms"),
        (b'{"text": "a +"}', "nothing stands after"),
        (b'{"terms": [{"upload": "none"}]}', "drop it again"),
        (b'{"terms": [{"picture": "../x"}]}', "search again"),
    ],
)
def test_a_bad_search_is_one_sentence(client, sent, said):
    answer = client.post("/api/search", content=sent)
    assert answer.status_code in (400, 404)
    assert said in answer.json()["error"]


def test_too_much_is_refused_before_it_is_read(client):
    big = client.post("/api/search", content=b" " * 70_000)
    assert (big.status_code, "65,536 bytes" in big.json()["error"]) == (413, True)

    def endless():
        for _ in range(40):
            yield bytes(1 << 20)

    assert client.post("/api/uploads", content=endless()).status_code == 413


@pytest.mark.parametrize("data", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a"])
def test_an_upload_that_is_no_picture_is_one_sentence(client, data):
    answer = client.post("/api/uploads", content=data)
    assert answer.status_code == 400
    assert "the picture" in answer.json()["error"]


def test_a_bomb_is_not_unpacked(client, monkeypatch):
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    answer = client.post("/api/uploads", content=file.getvalue())
    assert (answer.status_code, "pixels" in answer.json()["error"]) == (400, True)


def test_labels_are_cosines_and_probabilities(client):
    hit = found(client)["hits"][0]
    sent = {"picture": hit["id"], "names": ["cat", "dog"], "template": "a {}"}
    answer = client.post("/api/labels", json=sent).json()
    expected = tiny.encoder().classify(hit["path"], ["cat", "dog"], "a {}")
    assert answer["kind"] == "softmax"
    assert {label["name"]: label["probability"] for label in answer["labels"]} == pytest.approx(
        expected, abs=1e-4
    )
    assert answer["labels"][0]["cosine"] >= answer["labels"][1]["cosine"]
    upload = client.post("/api/uploads", content=photo()).json()["upload"]
    assert client.post("/api/labels", json={"upload": upload, "names": ["cat"]}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"names": ["cat"]},
        {"names": [], "upload": "x"},
        {"names": ["cat", "cat"], "upload": "x"},
        {"names": [" "], "upload": "x"},
        {"names": ["n"] * 501, "upload": "x"},
        {"names": ["cat"], "upload": "x", "template": "none"},
        {"names": "cat", "upload": "x"},
    ],
)
def test_bad_labels_are_one_sentence(client, sent):
    answer = client.post("/api/labels", json=sent)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]


def test_a_heat_map_lies_over_the_square(client):
    hit = found(client)["hits"][0]
    square = client.get(f"/api/pictures/{hit['id']}/square")
    map = client.get(f"/api/pictures/{hit['id']}/map", params={"text": "red"})
    assert Image.open(io.BytesIO(square.content)).size == (48, 48)
    assert Image.open(io.BytesIO(map.content)).mode == "RGBA"
    why = client.get(f"/api/pictures/{hit['id']}/why", params={"text": "red"}).json()
    numbers = tiny.encoder().explain(hit["path"], "red")[0]
    assert why["highest"] == pytest.approx(float(numbers.max()), abs=1e-4)
    row, column = divmod(int(numbers.argmax()), numbers.shape[1])
    assert (why["right"], why["down"]) == pytest.approx(
        ((column + 0.5) / 3, (row + 0.5) / 3), abs=1e-3
    )
    for text in ("", " ", "a" * 1001):
        bad = client.get(f"/api/pictures/{hit['id']}/why", params={"text": text})
        assert bad.status_code == 400


@pytest.mark.skipif(os.name != "posix", reason="names that are no text")
def test_hostile_names_are_text(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    hostile = ["<img src=x onerror=alert(1)>.png", "a\nb\x1b[31m.png", "\u202egnp.png"]
    paths = [os.fsencode(str(photos / name)) for name in hostile]
    paths.append(os.fsencode(str(photos)) + b"/\xff\xfe.png")
    for place, path in enumerate(paths):
        tiny.picture("red", place).save(tmp_path / "one.png")
        os.rename(tmp_path / "one.png", path)
    update(tmp_path / "x.index", photos, tiny.encoder())
    client = client_of(app_of(tmp_path / "x.index"))
    hits = found(client)["hits"]
    assert {hit["name"] for hit in hits} == {
        hostile[0],
        r"a\nb\x1b[31m.png",
        r"\u202egnp.png",
        r"\xff\xfe.png",
    }
    for hit in hits:
        assert client.get(f"/api/pictures/{hit['id']}/thumbnail").status_code == 200


def test_what_a_text_costs_is_paid_once(client, monkeypatch):
    found(client, text="a text of its own")
    monkeypatch.setattr(
        "diptych.encoder.Encoder.embed_ids", lambda *_, **__: pytest.fail("computed again")
    )
    found(client, text="a text of its own", offset=3)
    found(client, text="2:a text of its own")


def test_a_defect_is_said_without_its_inside(client, monkeypatch):
    def fail(*_):
        raise TypeError("secret /path")

    monkeypatch.setattr("diptych.app.answers.Answers._describe", fail)
    answer = client.post("/api/search", json={})
    assert (answer.status_code, "secret" in answer.text) == (500, False)


def test_the_table_is_the_documentation(client):
    page = client.get("/api").text
    for endpoint in ENDPOINTS:
        assert endpoint.path in page
        assert endpoint.what[:20] in page
    by_path = {endpoint.path: endpoint for endpoint in ENDPOINTS}
    for path, kind in (
        ("/api/search", asked.SearchAsked),
        ("/api/labels", asked.LabelsAsked),
    ):
        assert set(by_path[path].asks) == set(kind.__dataclass_fields__)
    said = set(re.findall(r"\w+", by_path["/api/status"].gives))
    assert set(client.get("/api/status").json()) <= said
    said = set(re.findall(r"\w+", by_path["/api/search"].gives))
    answer = found(client)
    assert set(answer) <= said
    assert set(answer["hits"][0]) <= said


def test_the_index_of_another_model_is_refused(kept_index, tmp_path):
    with pytest.raises(ConfigError, match="can't be mixed"):
        App(str(kept_index), tiny.encoder(seed=1), tmp_path, 1e8, print)


def test_vectors_are_not_lost_by_damage(index):
    """A picture whose entry is damaged isn't found, and is counted."""
    vectors = next(index.glob("vectors-*.npy"))
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 0x40
    vectors.write_bytes(data)
    client = client_of(app_of(index))
    with pytest.warns(UserWarning, match="damaged"):
        assert len(found(client, text="red")["hits"]) == 11
    assert client.get("/api/status").json()["damaged"] == 1


def test_an_index_of_nothing_is_searched(tmp_path):
    identity = tiny.encoder().identity
    writer.create(_made(tmp_path / "x.index"), meta.IndexMeta(model=identity, width=128))
    client = client_of(app_of(tmp_path / "x.index"))
    assert found(client, text="red", distinct=True)["hits"] == found(client)["hits"] == []
    assert client.post("/api/update", json={}).status_code == 400


@pytest.mark.parametrize("path", ["/a\0b.png", "/half-\ud800.png", "/etc/passwd", "/dev/zero"])
def test_what_a_strangers_index_names_is_no_way_to_other_files(tmp_path, path):
    index = _made(tmp_path / "x.index")
    writer.create(index, meta.IndexMeta(model=tiny.encoder().identity, width=128))
    with writer.Appender(index) as appender:
        picture = Picture(path=path, size=1, mtime_ns=1)
        appender.append([picture], tiny.encoder().embed_texts(["red"]))
    client = client_of(app_of(index))
    [hit] = found(client, text="red")["hits"]
    for kind in ("", "/thumbnail", "/preview", "/square", "/map?text=red"):
        answer = client.get(f"/api/pictures/{hit['id']}{kind}")
        assert answer.status_code in ((400, 404) if kind else (200,))
        assert "root:" not in answer.text


def test_an_index_of_texts_is_refused(tmp_path):
    (tmp_path / "captions.txt").write_text("a cat\na dog\n")
    update_texts(tmp_path / "x.index", tmp_path / "captions.txt", tiny.encoder())
    with pytest.raises(ConfigError, match="index of texts"):
        app_of(tmp_path / "x.index")


def _made(folder):
    folder.mkdir()
    return folder
