import json
import os
import shutil

import pytest

from diptych.cli import main
from diptych.config import OptimConfig, Run
from diptych.config.serialize import to_json
from diptych.evaluation import Result


def report(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["report", *map(str, arguments)])
    return end.value.code


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "my-run"
    folder.mkdir()
    (folder / "run.json").write_text(
        to_json(Run(steps=20, optim=OptimConfig(lr=0.25), recipe="tiny-digits"))
    )
    rows = [
        {"step": 10, "loss": 3.25, "lr": 0.1, "samples_per_second": 50.0},
        {"step": 20, "evaluation": {"top1": 0.625}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_one_page_of_a_run_and_a_result(run, tmp_path, capsys):
    result = Result(
        task="zero-shot",
        metrics={"top1": 0.875},
        protocol={"templates": ["a photo of a {}."]},
        data={"path": "<shards>"},
        model={"name": "m"},
        class_names=("cat", "dog"),
        confusion=((3, 1), (0, 4)),
    )
    saved = result.save(tmp_path / "pets.json")
    page = tmp_path / "page.html"
    assert report(run, saved, "--out", page, "--title", "Pets & runs") == 0
    text = page.read_text()
    for part in (
        "62.5%",
        "87.5%",
        "Pets &amp; runs",
        "recipe tiny-digits",
        "Confusions",
        "&lt;shards&gt;: m",
        "&lt;shards&gt;",
        "0.25",
    ):
        assert part in text
    assert str(page) in capsys.readouterr().out


def test_a_run_that_has_not_measured_anything_yet(run, tmp_path):
    (run / "metrics.jsonl").unlink()
    assert report(run, "--out", tmp_path / "page.html") == 0


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{}", b"[1"])
def test_what_is_no_result_is_named(content, tmp_path, capsys):
    path = tmp_path / "thing.json"
    if content is not None:
        path.write_bytes(content)
    assert report(path, "--out", tmp_path / "page.html") == 2
    assert "result" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert report(tmp_path, "--out", tmp_path / "page.html") == 2
    assert str(tmp_path) in capsys.readouterr().err


def saved(folder, model, value, name="pets"):
    protocol = {"metric": "top1", "resize": "crop"}
    result = Result(
        task="zero-shot",
        metrics={"top1": value},
        protocol=protocol,
        data={"name": name},
        model={"name": model},
    )
    return result.save(folder / f"{model}-{name}.json")


def test_models_by_sets_beside_published_figures_and_clip_benchmarks(tmp_path):
    files = [saved(tmp_path, "one", 0.5), saved(tmp_path, "two", 0.625)]
    theirs = tmp_path / "theirs.json"
    values = {
        "dataset": "wds/pets",
        "model": "old",
        "pretrained": "x",
        "task": "zeroshot_classification",
    }
    theirs.write_text(json.dumps(values | {"metrics": {"acc1": 0.375}, "language": "en"}))
    (tmp_path / "printed.csv").write_text(
        "model,task,metric,value,source\ntwo,pets,top1,70,a paper\n"
    )
    page, table = tmp_path / "page.html", tmp_path / "table.md"
    more = ("--table", table, tmp_path / "table.csv", "--published", tmp_path / "printed.csv")
    assert report(*files, theirs, "--out", page, *more, "--clip-benchmark", tmp_path / "cb") == 0
    lines = table.read_text().splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == ["62.5 (≠70.0) |", "50.0 |", "37.5 |"]
    assert "62.5 (≠70.0)" in page.read_text()
    assert json.loads((tmp_path / "cb" / "one-pets.json").read_text())["metrics"] == {"acc1": 0.5}
    assert (tmp_path / "table.csv").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--table", "t.md"), "--table: that is made of results"),
        (("--clip-benchmark", "cb", "--table", "t.md"), "--table and --clip-benchmark: that is"),
    ],
)
def test_what_needs_results_says_so_and_the_page_is_written(
    run, tmp_path, capsys, monkeypatch, flags, said
):
    monkeypatch.chdir(tmp_path)
    assert report(run, "--out", "page.html", *flags) == 2
    assert said in capsys.readouterr().err
    assert "recipe tiny-digits" in (tmp_path / "page.html").read_text()


def test_nothing_to_report_on_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report() == 2
    assert "say what to report on" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_of_results_is_all_of_them(tmp_path):
    files = [saved(tmp_path / "results", name, 0.5) for name in ("one", "two")]
    tables = [tmp_path / "folder.csv", tmp_path / "files.csv"]
    for sources, table in zip([[tmp_path / "results"], files], tables, strict=True):
        assert report(*sources, "--out", tmp_path / "page.html", "--table", table) == 0
    assert tables[0].read_text() == tables[1].read_text()


def test_runs_are_drawn_together_and_their_differences_listed(run, tmp_path):
    other = tmp_path / "other" / "my-run"
    shutil.copytree(run, other)
    (other / "run.json").write_text(to_json(Run(steps=20, optim=OptimConfig(lr=0.5))))
    page = tmp_path / "page.html"
    assert report(run, other, "--out", page) == 0
    text = page.read_text()
    assert text.count('aria-label="loss over step"') == 1
    names = [f"{tmp_path.name}/my-run", "other/my-run"]
    assert all(f">{name}</text>" in text for name in names)
    row = ("optim.<wbr>lr", "0.<wbr>25", "0.<wbr>5")
    assert "".join(f'<td class="words"><div>{cell}</div></td>' for cell in row) in text


def test_the_table_leads_to_each_result(tmp_path):
    files = [saved(tmp_path, model, 0.5) for model in ("one", "two")]
    page = tmp_path / "page.html"
    assert report(*files, "--out", page) == 0
    text = page.read_text()
    for number in "12":
        assert f'<a href="#result-{number}">50.0</a>' in text
        assert text.count(f'id="result-{number}"') == 1


@pytest.mark.parametrize("flag", ["--out", "--table", "--clip-benchmark"])
def test_a_place_below_a_file_is_refused_before_anything_is_made(
    flag, run, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert report(run, flag, "file/it.md") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"({flag}): Not a directory; choose another {flag}" in said
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("a/x.json", "b/x.json", "--clip-benchmark", "cb"), "two results are called x.json"),
        (("a/x.json", "--out", "t.md", "--table", "./t.md"), "are the same file, ./t.md"),
        (("a/x.json", "--out", "a"), "--out a is a folder; name a file"),
    ],
)
def test_nothing_is_written_over_anything(tmp_path, capsys, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert report(*flags) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_pipe_is_no_result_and_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "result.json")
    assert report(tmp_path / "result.json", "--out", tmp_path / "page.html") == 2
    assert "it is no regular file" in capsys.readouterr().err
