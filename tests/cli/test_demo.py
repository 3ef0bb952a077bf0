import json

import pytest
from rich.console import Console

from diptych.cli import main
from diptych.data import scenes
from diptych.experiments import demo
from diptych.experiments.digits import queries, render

SMALL = {"train": 144, "seen": 12, "unseen": 12, "pairs": 8}


def scene(*digits, relation=None):
    return {
        "digits": [dict(zip(("value", "colour", "size"), digit)) for digit in digits],
        "relation": relation,
    }


RED_SEVEN, BLUE_TWO = (7, "red", "small"), (2, "blue", "large")


@pytest.mark.parametrize(
    ("query", "truth"),
    [
        ("a red seven", True),
        ("a small red seven", True),
        ("a large red seven", False),
        ("a blue seven", False),
        ("a blue two", True),
        ("a red seven left of a blue two", True),
        ("a blue two right of a red seven", True),
        ("a blue two left of a red seven", False),
        ("a red seven above a blue two", False),
    ],
)
def test_which_pictures_fit_a_query(query, truth):
    assert queries.fits(query, scene(RED_SEVEN, BLUE_TWO, relation="left")) is truth


def test_every_caption_like_query_of_a_pair_fits_its_own_scene():
    for sample in scenes.samples("pairs", 40):
        assert queries.fits(queries.query_of(sample), queries.attributes(sample))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(render, "COUNTS", SMALL)


def run(out, *more):
    with pytest.raises(SystemExit) as end:
        main(["demo", "--out", str(out), "--steps", "2", *more])
    return end.value.code


def test_the_whole_way_and_an_honest_end(small, tmp_path, capsys):
    out = tmp_path / "demo"
    assert run(out) == 1
    printed = capsys.readouterr()
    assert "worse than it should be" in printed.err
    assert str(out / "report.html") in printed.out
    page = (out / "report.html").read_text()
    assert "a red zero" in page
    assert page.count("data:image/jpeg") == 12 + 3 * queries.TOP
    rows = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("evaluation" in row for row in rows)
    assert (out / "pictures.index" / "meta.json").exists()

    shards = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.tar")}
    first = page
    result = demo(out, steps=2)
    assert capsys.readouterr() == ("", "")
    assert result.missed.keys() == {"digit", "colour"}
    assert {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.tar")} == shards
    again = (out / "report.html").read_text()
    headline = slice(first.index('<div class="headline">'), first.index("What was done"))
    assert again[headline] == first[headline]


def test_what_it_did_not_write_it_does_not_delete(small, tmp_path, capsys):
    mine = tmp_path / "run" / "letters.txt"
    mine.parent.mkdir()
    mine.write_text("dear")
    assert run(tmp_path) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert mine.read_text() == "dear"


@pytest.mark.parametrize("mine", ["run/run.json", "pictures.index/meta.json", "data/meta.json"])
def test_runs_and_indexes_of_others_are_not_taken_for_its_own(small, tmp_path, capsys, mine):
    (tmp_path / mine).parent.mkdir()
    (tmp_path / mine).write_text("{}")
    assert run(tmp_path) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")] == [mine]


def test_interrupted_pictures_are_made_anew(small, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(render, "write_shards", stop)
        with pytest.raises(KeyboardInterrupt):
            render.render(tmp_path / "data", 0, Console(quiet=True))
    render.render(tmp_path / "data", 0, Console(quiet=True))
    assert len(list((tmp_path / "data").rglob("*.tar"))) == 12 + 3
