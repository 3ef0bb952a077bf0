"""Tables of models by sets."""

import csv
import io

import pytest

from diptych import datasets
from diptych.errors import ConfigError, DataError
from diptych.evaluation import Result
from diptych.reports import board, read_published, to_csv, to_latex, to_markdown, write_table
from diptych.reports.board import BETTER


def result(model: str, name: str, value: float, resize: str = "crop", **more) -> Result:
    fields = {"task": "zero-shot", "metrics": {"top1": value, "top5": 1.0}} | more
    return Result(
        protocol={"metric": next(iter(fields["metrics"])), "resize": resize},
        data={"name": name},
        model={"name": model},
        **fields,
    )


def test_best_first_in_the_order_of_the_field_with_a_mean_of_what_all_have():
    results = [
        result("a", "pets", 0.5),
        result("a", "imagenet1k", 0.6),
        result("b", "pets", 0.7, intervals={"top1": [0.68, 0.72]}),
        result("b", "imagenet1k", 0.8),
        result("b", "cars", 0.9),
        result("b", "pets", 0.99, task="linear"),
    ]
    table = board(results)
    assert to_markdown(table).splitlines() == [
        "| model | resize | imagenet1k | cars | pets | linear/pets | mean |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| b | crop | 80.0 | 90.0 | 70.0±2.0 | 99.0 | 75.0 |",
        "| a | crop | 60.0 | — | 50.0 | — | 55.0 |",
    ]


def test_the_newest_of_a_cell_counts():
    results = [
        result("a", "pets", 0.5, date="2026-02-01"),
        result("a", "pets", 0.4, date="2026-01-01"),
    ]
    assert "50.0" in to_markdown(board(results))


def test_the_better_of_both_resizes_is_flagged():
    results = [
        result("a", name, value, resize)
        for name, resize, value in [
            ("pets", "crop", 0.5),
            ("pets", "squash", 0.6),
            ("cars", "crop", 0.9),
            ("cars", "squash", 0.8),
        ]
    ]
    table = board(results)
    assert {line.how: round(table.mean(line), 3) for line in table.lines} == {
        BETTER: 0.75,
        "crop": 0.7,
        "squash": 0.7,
    }
    assert to_markdown(table).endswith("not something that a user gets.")


def test_published_figures_stand_beside_and_differences_show(tmp_path):
    (tmp_path / "printed.csv").write_text(
        "model,task,metric,value,source\nm,pets,top1,87.0,paper\nm,cars,top1,0.6,paper\n"
    )
    results = [
        result("m", "pets", 0.875, intervals={"top1": [0.86, 0.89]}),
        result("m", "cars", 0.65, intervals={"top1": [0.64, 0.66]}),
    ]
    table = board(results, published=read_published(tmp_path / "printed.csv"))
    assert "87.5±1.5 (87.0)" in to_markdown(table)
    assert "65.0±1.0 (≠60.0)" in to_markdown(table)
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["task"], row["published"], row["differs"]) for row in rows] == [
        ("cars", "0.6", "1"),
        ("pets", "0.87", "0"),
    ]


def test_the_zoo_knows_what_was_claimed():
    [line] = to_markdown(
        board(
            [
                result(
                    "hf-hub:timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
                    "imagenet1k",
                    0.747,
                )
            ]
        )
    ).splitlines()[2:]
    assert "74.7 (74.7)" in line


def test_what_a_result_calls_its_model_is_never_imported(tmp_path):
    code = tmp_path / "payload.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    board([result(f"{code}:X", "imagenet1k", 0.747)])
    assert not (tmp_path / "ran").exists()


def test_retrieval_shows_all_recalls():
    recalls = {f"{way}_r{k}": 0.5 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    found = result("m", "flickr30k", 0.0, task="retrieval", metrics={"mean_recall": 0.5} | recalls)
    assert "flickr30k t→i R@10" in to_markdown(board([found]))


def test_latex_is_escaped_and_the_best_is_bold(tmp_path):
    table = board([result("a_1", "pets", 0.5), result("b&c", "pets", 0.6)])
    text = write_table(tmp_path / "table.tex", table).read_text()
    assert r"b\&c & crop & \textbf{60.0} \\" in text
    assert r"a\_1 & crop & 50.0 \\" in text
    assert to_latex(table) + "\n" == text


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"\.md, \.csv, \.tex"):
        write_table(tmp_path / "table.xls", board([result("a", "pets", 0.5)]))
    (tmp_path / "x.csv").write_text("model,task\na,b\n")
    with pytest.raises(DataError, match="needs the columns"):
        read_published(tmp_path / "x.csv")


def test_the_mean_of_a_complete_group_stands_beside_the_published_one():
    members = datasets.GROUPS["eva27"]
    results = [
        result("EVA-CLIP-18B", name, value, way)
        for name in members
        for way, value in (("crop", 0.8), ("squash", 0.7))
    ]
    table = board(results)
    means = {line.how: table.group_means(line)["eva27"] for line in table.lines}
    assert means["crop"].value == pytest.approx(0.8)
    assert means["crop"].published.value == pytest.approx(0.8044)
    assert means[BETTER].published.value == pytest.approx(0.807)
    assert table.cells[table.lines[0], table.columns[0]].published, "ImageNet's is on record"
    assert " eva27 |" in to_markdown(table)
