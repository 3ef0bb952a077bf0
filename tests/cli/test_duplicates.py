"""`diptych duplicates`: what could go is said, and nothing is deleted."""

import json
import os
import shutil

import pytest

import diptych
from diptych.search import update
from tests import tiny
from tests.cli.calls import call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("duplicates")
    (folder / "photos").mkdir()
    tiny.picture("red").save(folder / "photos" / "a.png")
    shutil.copy(folder / "photos" / "a.png", folder / "photos" / os.fsdecode(b"\xe9\n.png"))
    tiny.picture("blue", 2).save(folder / "photos" / "b.png")
    update(folder / "x.index", folder / "photos", diptych.load(tiny.save(folder / "model"), "cpu"))
    return folder


def test_groups_are_listed(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert call("duplicates", "x.index", "--threshold", "1", "--html", "page.html") == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["1", "keep"], ["copy", "2,845"]]
    assert (
        "1 groups; beside what could be kept of each, 1 pictures (0.0 MB), 1 of them copies" in err
    )
    assert "group 1" in (folder / "page.html").read_text()
    assert len(os.listdir("photos")) == 3


def test_for_other_programs(folder, capsysbinary):
    index = folder / "x.index"
    assert call("duplicates", index, "--copies", "--json") == 0
    group = json.loads(capsysbinary.readouterr().out)
    assert group["keep"] == str(folder / "photos" / "a.png")
    assert group["others"][0]["copy"] is True
    assert call("duplicates", index, "--copies", "--null") == 0
    assert capsysbinary.readouterr().out == os.fsencode(folder) + b"/photos/\xe9\n.png\0"
    assert call("duplicates", index, "--in", folder / "none") == 0
    assert capsysbinary.readouterr().out == b""
