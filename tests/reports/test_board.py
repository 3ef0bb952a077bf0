"""Tables of models by sets."""

import csv
import io
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from diptych import datasets
from diptych.errors import ConfigError, DataError
from diptych.evaluation import Result
from diptych.reports import (
    board,
    read_published,
    replaced,
    to_csv,
    to_latex,
    to_markdown,
    write_table,
)
from diptych.reports.averages import BETTER


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
        "| model | resize | imagenet1k | cars | pets | linear/pets | mean of 2 zero-shot sets |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| b | crop | 80.0 | 90.0 | 70.0±2.0 | 99.0 | 75.0 |",
        "| a | crop | 60.0 | — | 50.0 | — | 55.0 |",
    ]


def test_the_newest_of_a_cell_counts():
    results = [
        result("a", "pets", 0.5, date="2026-02-01"),
        result("a", "pets", 0.4, date="2026-01-01"),
    ]
    table = board(results)
    assert "50.0" in to_markdown(table)
    assert "of which the newest counts: a, crop on pets" in replaced(table)
    assert replaced(board([results[0], results[0]])) == ""


def test_sets_and_models_whose_last_folders_are_equal_are_told_apart(tmp_path):
    """a/test: 100.00 and 72.73, b/test: 31.58 and 38.60, as `evaluate` printed them."""
    found = {("runs/a/seed0", "a/test"): 1.0, ("runs/b/seed0", "a/test"): 0.7273}
    found |= {("runs/a/seed0", "b/test/"): 0.3158, ("runs/b/seed0", "b/test/"): 0.386}
    results = [result(model, name, value) for (model, name), value in found.items()]
    table = board(results)
    assert to_markdown(table).splitlines() == [
        "| model | resize | a/test | b/test | mean of 2 zero-shot sets |",
        "| --- | --- | ---: | ---: | ---: |",
        "| a/seed0 | crop | 100.0 | 31.6 | 65.8 |",
        "| b/seed0 | crop | 72.7 | 38.6 | 55.7 |",
    ]
    assert r"a/seed0 & crop & \textbf{100.0} & 31.6" in to_latex(table)
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["model"], row["recorded_as"], row["task"]) for row in rows[:2]] == [
        ("a/seed0", "runs/a/seed0", "a/test"),
        ("a/seed0", "runs/a/seed0", "b/test"),
    ]


def test_a_folder_called_as_a_known_set_is_another_set(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    own = replace(result("m", "cifar10/", 0.25), data={"name": "cifar10/", "path": "cifar10/test"})
    head = to_markdown(board([result("m", "cifar10", 0.75), own])).splitlines()[0]
    assert head == f"| model | resize | cifar10 | mine/cifar10 | {_MEAN} |"


def test_spellings_of_one_model_are_one_line():
    names = ("runs/a", "./runs/a/", str(Path("runs/a").absolute()))
    results = [result(name, data, 0.5) for name, data in zip(names, ("pets", "cars", "dtd"))]
    assert [str(line) for line in board(results).lines] == ["a, crop"]


def recalls(seed):
    """The table of three models' recalls that were read in another order for each seed."""
    names = [f"{way}_r{k}" for way in ("text_to_image", "image_to_text") for k in (10, 1, 5)]
    results = []
    for step, first, mean in ((30, 0.9, 0.5), (10, 0.1, 0.55), (9, 0.9, 0.5)):
        metrics = dict.fromkeys([*names, "mean_recall"], mean) | {"image_to_text_r1": first}
        results.append(
            Result(
                task="retrieval",
                metrics=metrics,
                protocol={"metric": "mean_recall", "resize": "crop"},
                model={"name": f"run/step-{step}"},
                data={"name": "x"},
                date="",
            )
        )
    random.Random(seed).shuffle(results)
    return to_markdown(board(results))


def check_recalls(table):
    """Ranked by the mean recall: 50 and 55, against which the first column says the opposite."""
    head, _, *rows = table.splitlines()
    assert {head, *rows} == {
        "| model | resize | x i→t R@1 | x i→t R@5 | x i→t R@10 | x t→i R@1 | x t→i R@5 | x t→i R@10"
        " | x MR |",
        "| step-10 | crop | 10.0 | 55.0 | 55.0 | 55.0 | 55.0 | 55.0 | 55.0 |",
        "| step-9 | crop | 90.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
        "| step-30 | crop | 90.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |",
    }
    assert [row.split()[1] for row in rows] == ["step-10", "step-9", "step-30"]


@pytest.mark.parametrize("seed", range(6))
def test_recalls_stand_as_they_are_printed_whatever_the_order_of_files(seed):
    """The order of hashes is another in each run of the tests."""
    check_recalls(recalls(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_recalls_stand_as_they_are_printed_whatever_the_order_of_hashes(seed):
    code = f"from tests.reports.test_board import recalls; print(recalls({seed}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    )
    check_recalls(done.stdout)


_MEAN = "mean of 2 zero-shot sets"


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (1.0, [0.9124, 1.0], "100.0 [91.2–100.0]"),
        (0.0, [0.0, 0.0876], "0.0 [0.0–8.8]"),
        (0.975, [0.8712, 0.9956], "97.5 [87.1–99.6]"),
        (0.8, [0.7580, 0.8363], "80.0±3.9"),
    ],
)
def test_no_interval_leaves_the_scale(value, interval, text):
    """Wilson's of 40 of 40, 0 of 40, 39 of 40 and 320 of 400."""
    found = board([result("m", "pets", value, intervals={"top1": interval})])
    assert f"| {text} |" in to_markdown(found)


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
    odd = to_latex(board([result("{y}~^", "pets", 0.5)]))
    assert r"\{y\}\textasciitilde{}\textasciicircum{} & crop" in odd


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"\.md, \.csv, \.tex"):
        write_table(tmp_path / "table.xls", board([result("a", "pets", 0.5)]))
    for content in ("model,task\na,b\n", "model,task,metric,value,source\n" + "x" * 200_000):
        (tmp_path / "x.csv").write_text(content)
        with pytest.raises(DataError, match="needs the columns"):
            read_published(tmp_path / "x.csv")


def eva(name: str, resize: str, model: str = "EVA-CLIP-18B", frames: int = 1) -> Result:
    """What EVA-CLIP-18B's paper prints of a set, as if it had been measured by its convention."""
    kind = datasets.get(name).kind
    rows = datasets.published(model="EVA-CLIP-18B", name=name)
    ways = (resize, frames)
    metrics = {row.metric: row.value / 100 for row in rows if (row.resize, row.frames) == ways}
    if kind == "retrieval":
        metrics = {"mean_recall": sum(metrics.values()) / 6} | metrics
    found = result(model, name, 0.0, resize, task=kind, metrics=metrics)
    protocol = {"profile": "eva-clip-18b"} | ({"frames": frames} if kind == "video" else {})
    return replace(found, protocol=found.protocol | protocol)


def eva_board(names, model="EVA-CLIP-18B"):
    """In all the ways in which the profile shows each set."""
    profile = datasets.profile("eva-clip-18b")
    return board(
        [eva(name, way, model) for name in names for way in profile.of(datasets.get(name)).resize]
    )


WAYS = ("crop", "squash")
EVA_GROUPS = ("eva27", "eva-video4", "eva-retrieval2")
EVA_SETS = [name for group in EVA_GROUPS for name in datasets.GROUPS[group]]


def the_better(table):
    return next(line for line in table.lines if line.how == f"{BETTER}, eva-clip-18b")


@pytest.mark.parametrize("model", ["EVA-CLIP-18B", "/weights/EVA_CLIP_18B_psz14_s6B.fp16.pt"])
def test_eva_18bs_three_averages_stand_beside_the_published_ones(model):
    table = eva_board(EVA_SETS, model)
    means = table.group_means(the_better(table))
    found = {
        name: (round(100 * means[name].value, 1), means[name].published) for name in EVA_GROUPS
    }
    assert {name: value for name, (value, _) in found.items()} == {
        "eva27": 80.7,
        "eva-video4": 75.0,
        "eva-retrieval2": 87.8,
    }
    assert {name: round(100 * printed.value, 1) for name, (_, printed) in found.items()} == {
        "eva27": 80.7,
        "eva-video4": 75.0,
        "eva-retrieval2": 87.8,
    }
    [crop] = [line for line in table.lines if line.how == "crop, eva-clip-18b"]
    means = table.group_means(crop)
    assert 100 * means["eva27"].value == pytest.approx(80.437, abs=0.0005)
    assert means["eva27"].published.value == pytest.approx(0.8044)
    assert "eva-retrieval2" not in means, "its convention squashes pictures that have captions"
    assert "80.7 (80.7) | 75.0 (75.0) | 87.8 (87.8) |" in to_markdown(table)


def test_a_number_of_frames_has_lines_of_its_own_and_its_own_published_figures():
    names = datasets.GROUPS["eva-video4"]
    table = board(
        [eva(*which, frames=frames) for which in product(names, WAYS) for frames in (1, 8)]
    )
    means = {line.how: table.group_means(line)["eva-video4"] for line in table.lines}
    assert {how: round(100 * mean.published.value, 1) for how, mean in means.items()} == {
        "crop, eva-clip-18b": 74.6,
        "squash, eva-clip-18b": 74.9,
        f"{BETTER}, eva-clip-18b": 75.0,
        "crop, eva-clip-18b, 8 frames": 79.7,
        "squash, eva-clip-18b, 8 frames": 79.6,
        f"{BETTER}, eva-clip-18b, 8 frames": 79.7,
    }
    for how, mean in means.items():
        assert mean.value == pytest.approx(mean.published.value, abs=0.0006), how


def test_what_was_never_published_of_so_many_frames_has_nothing_on_record():
    measured = eva("ucf101", "crop")
    four = replace(measured, protocol=measured.protocol | {"frames": 4})
    table = board([measured, four])
    printed = {line.how: cell.published for (line, _), cell in table.cells.items()}
    assert printed["crop, eva-clip-18b"].value == pytest.approx(0.86)
    assert printed["crop, eva-clip-18b, 4 frames"] is None


def test_an_incomplete_group_has_no_mean_and_says_what_is_missing():
    table = eva_board([name for name in EVA_SETS if name != "objectnet"])
    better = the_better(table)
    assert "eva27" not in table.group_means(better)
    assert table.missing(better)["eva27"] == ("objectnet",)


def test_a_set_that_was_shown_in_one_way_of_two_is_no_better_of_both():
    names = [name for name in datasets.GROUPS["eva27"] if name != "objectnet"]
    results = [eva(name, way) for name in names for way in ("crop", "squash")]
    table = board([*results, eva("objectnet", "crop")])
    assert table.missing(the_better(table))["eva27"] == ("objectnet",)


def test_conventions_that_ask_other_samples_are_not_compared():
    results = [eva(name, "crop") for name in datasets.GROUPS["eva27"]]
    ours = [replace(each, protocol=each.protocol | {"profile": "diptych"}) for each in results]
    [line] = board(ours).lines
    assert board(ours).group_means(line)["eva27"].published is None, "EuroSAT's split is another"
    cells = {column.task: cell for (_, column), cell in board(ours).cells.items()}
    assert cells["eurosat"].published is None
    assert cells["pets"].published.value == pytest.approx(0.96)


def test_a_mean_over_fewer_samples_is_told_and_not_compared():
    short = {"name": "pets", "expected": 3_669, "used": 200}
    table = board(
        [
            replace(each, data=short) if each.data["name"] == "pets" else each
            for each in (eva(name, "crop") for name in datasets.GROUPS["eva27"])
        ]
    )
    mean = table.group_means(table.lines[0])["eva27"]
    assert mean.partial
    assert mean.published is None


def test_weights_of_ones_own_training_have_nothing_on_record():
    own = {"name": "/runs/eva-clip-18b", "provenance": {"run": "/runs/eva-clip-18b", "step": 9}}
    table = board([replace(eva(name, "crop"), model=own) for name in datasets.GROUPS["eva27"]])
    assert not any(cell.published for cell in table.cells.values())


def test_linear_probes_have_their_own_means():
    results = [result("m", name, 0.5, task="linear") for name in datasets.GROUPS["declip11"]]
    table = board(results)
    means = table.group_means(table.lines[0])
    assert means["linear/declip11"].value == pytest.approx(0.5)
    assert "declip11" not in means
