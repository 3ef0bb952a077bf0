"""`diptych embed` and `diptych search`, from a folder to pictures found."""

import pytest

from tests import tiny
from tests.cli.calls import call


@pytest.fixture
def photos(tmp_path):
    tiny.write_pictures(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path):
    return tiny.save(tmp_path / "model")


def test_the_second_time_the_index_knows_its_model(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    assert call("embed", model, photos, "--out", index, "--device", "cpu") == 0
    assert (
        capsys.readouterr().out
        == f"{index}: 12 added, 0 changed, 0 removed, 0 kept, 0 unreadable\n"
    )
    tiny.picture("red", 9).save(photos / "new.png")
    (photos / "blue" / "0.png").unlink()
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    assert call("embed", photos, "--out", index, "--device", "cpu") == 0
    out, err = capsys.readouterr()
    assert out == f"{index}: 1 added, 0 changed, 1 removed, 11 kept, 1 unreadable\n"
    assert "left out: " in err
    assert "bad.jpg" in err


def test_the_model_can_be_a_flag(tmp_path, photos, model, capsys):
    assert (
        call(
            "embed",
            photos,
            "--model",
            model,
            "--out",
            tmp_path / "x.index",
            "--half",
            "--device",
            "cpu",
        )
        == 0
    )
    assert "12 added" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photos", "--out", "x.index"], "x.index is new, so say which model makes it"),
        (["--out", "x.index"], "say one model and a place"),
    ],
)
def test_what_is_missing_is_said(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert call("embed", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_model_is_refused(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    assert call("embed", model, photos, "--out", index, "--device", "cpu") == 0
    assert (
        call("embed", tiny.save(tmp_path / "other", 1), photos, "--out", index, "--device", "cpu")
        == 2
    )
    assert "can't be mixed" in capsys.readouterr().err


def embed(*arguments: object) -> int:
    return call("embed", *arguments, "--device", "cpu")


def test_what_is_not_there_is_said_and_pruned(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    embed(model, photos, "--out", index)
    for path in (photos / "red").iterdir():
        path.unlink()
    (photos / "blue").rename(photos / "bleu")
    capsys.readouterr()
    assert embed(photos, "--out", index) == 0
    out, err = capsys.readouterr()
    assert out == f"{index}: 3 added, 0 changed, 0 removed, 6 kept, 0 unreadable\n"
    for line in (
        f"not seen: {photos}/red: 3 entries kept",
        f"not seen: {photos}/blue: 3 entries kept",
        "known by their content: 3 of those added",
        "not there any more: 3 of their old names, kept until --prune",
        "--prune drops entries of files that aren't there any more",
    ):
        assert line in err
    assert embed(photos, "--out", index, "--prune") == 0
    out, err = capsys.readouterr()
    assert out == f"{index}: 0 added, 0 changed, 6 removed, 9 kept, 0 unreadable\n"
    assert "prune" not in err


def test_names_do_not_move_the_cursor(tmp_path, photos, model, capsys):
    (photos / "a\n\x1b[31m.png").write_bytes(b"none")
    assert embed(model, photos, "--out", tmp_path / "x.index") == 0
    _, err = capsys.readouterr()
    assert f"left out: {photos}/a\\n\\x1b[31m.png" in err


def test_too_great_a_share_of_bad_pictures_fails_by_the_flag(tmp_path, photos, model, capsys):
    (photos / "bad.png").write_bytes(b"none")
    index = tmp_path / "x.index"
    assert embed(model, photos, "--out", index, "--max-bad-share", "0.05") == 2
    assert "1 of 13 pictures can't be read, more than the share of 0.05 that --max-bad-share" in (
        capsys.readouterr().err
    )
    assert embed(photos, "--out", index, "--max-bad-share", "0.1") == 0
    assert embed(photos, "--out", index, "--max-bad-share", "nan") == 2
    assert "--max-bad-share nan must be a number from 0 to 1" in capsys.readouterr().err
    alone = tmp_path / "alone"
    alone.mkdir()
    (photos / "bad.png").rename(alone / "bad.png")
    assert embed(model, alone, "--out", tmp_path / "y.index") == 2
    assert "none of 1 pictures can be read; the first: " in capsys.readouterr().err
    assert not (tmp_path / "y.index").exists()


def test_names_can_be_excluded(tmp_path, photos, model, capsys):
    assert embed(model, photos, "--out", tmp_path / "x.index", "--exclude", "red", "0.*") == 0
    out, err = capsys.readouterr()
    assert "6 added" in out
    assert "not pictures that are read: left out by name 4" in err


def test_an_index_has_one_precision(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    embed(model, photos, "--out", index, "--dtype", "bf16")
    assert embed(photos, "--out", index) == 0
    assert embed(photos, "--out", index, "--dtype", "fp16") == 2
    assert "--dtype fp16: " in capsys.readouterr().err


def test_damage_is_said_and_mended(tmp_path, photos, model, capsys):
    index = tmp_path / "x.index"
    embed(model, photos, "--out", index)
    vectors = bytearray((index / "vectors-0.npy").read_bytes())
    vectors[-1] ^= 1
    (index / "vectors-0.npy").write_bytes(vectors)
    capsys.readouterr()
    assert call("search", index, "a thing", "--device", "cpu") == 0
    out, err = capsys.readouterr()
    assert "1 of 12 entries of" in err
    assert len(out.splitlines()) == 12  # a head and 11 pictures
    assert embed(photos, "--out", index) == 0
    out, err = capsys.readouterr()
    assert "1 added, 0 changed, 0 removed, 11 kept" in out
    assert "damaged, and thrown away: 1 entries" in err
    assert call("search", index, "a thing", "--device", "cpu") == 0
    assert capsys.readouterr().err == ""


def test_the_model_of_an_index_that_moved(tmp_path, photos, model, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for path in (photos, model):
        path.rename(old / path.name)
    embed(old / "model", old / "photos", "--out", old / "x.index")
    old.rename(new)  # all together: nothing is to be said
    assert call("search", new / "x.index", "a", "--device", "cpu") == 0
    assert "(gone)" not in capsys.readouterr().out
    (new / "model").rename(tmp_path / "elsewhere")
    assert embed(new / "photos", "--out", new / "x.index") == 2
    assert "if it has moved, say where: --model PLACE" in capsys.readouterr().err
    assert embed(new / "photos", "--out", new / "x.index", "--model", tmp_path / "elsewhere") == 0
    assert "12 kept" in capsys.readouterr().out
    assert call("search", new / "x.index", "a", "--device", "cpu") == 0


def test_captions_are_found_by_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny.save(tmp_path / "model")
    tiny.picture("red").save("red.png")
    (tmp_path / "captions.csv").write_text("file;caption\na.png;a red thing\nb.png;a dog\n")
    flags = ("--texts", "--out", "x.index", "--device", "cpu")
    assert call("embed", model, "captions.csv", *flags) == 0
    assert "x.index: 2 added" in capsys.readouterr().out
    assert call("embed", "captions.csv", *flags) == 0
    assert "0 added, 0 changed, 0 removed, 2 kept" in capsys.readouterr().out
    assert call("search", "x.index", "red.png", "--device", "cpu", "--html", "page.html") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert sorted(" ".join(line.split()[2:]) for line in lines) == ["a dog", "a red thing"]
    assert "a red thing" in (tmp_path / "page.html").read_text()
    assert call("embed", "captions.csv", *flags, "--prune") == 2
    assert call("embed", "captions.csv", "--out", "x.index", "--text-key", "x") == 2


def test_several_places_need_no_model_where_the_index_knows_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny.save(tmp_path / "model")
    tiny.write_pictures(tmp_path / "photos", each=1)
    flags = ("--out", "x.index", "--device", "cpu")
    assert call("embed", model, "photos/red", "photos/blue/0.png", *flags) == 0
    assert call("embed", "photos/red", "photos/green", *flags) == 0
    assert call("embed", "photos/blue/0.png", "photos/red/0.png", *flags) == 0
    tiny.picture("red").save(model / "plot.png")
    assert call("embed", model, "photos/yellow", *flags) == 0
    added = [line.split(", changed")[0] for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[1] for line in added] == ["2", "1", "0", "1"]
