"""What a page says of a result, and of several checkpoints."""

import re
from dataclasses import replace

import pytest

from diptych import reports
from diptych.config import Run
from diptych.evaluation import Result
from diptych.reports.chance import chance


def result(**more) -> Result:
    fields = {"task": "zero-shot", "metrics": {"top1": 0.5}, "protocol": {"metric": "top1"}}
    return Result(**(fields | {"data": {"name": "pets"}, "model": {"name": "m"}} | more))


def section(found, title):
    return next(each for each in found if each.title == title)


def test_guessing_among_classes_and_pictures_by_hand():
    """Of 60 pictures with two captions each: 5 of 60; and 1 - (118 / 120)(117 / 119) for two of the
    first two captions drawn, here for one, five and ten of them."""
    classes = result(metrics={"top1": 0.5, "top5": 0.9}, class_names=tuple("abcdefgh"))
    assert chance(classes) == {"top1": 1 / 8, "top5": 5 / 8}
    recalls = {f"{way}_r{k}": 0.5 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    found = chance(
        result(
            task="retrieval",
            metrics=recalls | {"mean_recall": 0.5},
            data={"name": "x", "used": 60},
            protocol={"captions": 120},
        )
    )
    assert found["text_to_image_r5"] == pytest.approx(5 / 60)
    assert found["image_to_text_r1"] == pytest.approx(2 / 120)
    assert found["image_to_text_r5"] == pytest.approx(1 - (115 * 114) / (120 * 119))
    assert found["image_to_text_r10"] == pytest.approx(1 - (110 * 109) / (120 * 119))
    assert found["mean_recall"] == pytest.approx(sum([*found.values()][:6]) / 6)


def test_the_first_five_of_three_classes_say_nothing():
    metrics = {"top1": 0.4, "top5": 1.0, "mean_per_class": 0.4}
    found = result(metrics=metrics, class_names=tuple("abc"))
    rows = reports.describe_result(found)[0].body["rows"]
    assert [row[0] for row in rows] == ["top1", "mean per class"]
    assert rows[0] == ["top1", "40.0%", "—", "33.3%"]


def test_remarks_stand_first():
    data = {"name": "x", "remarks": ["12 of 1000 classes"], "samples": 50, "unusable": 3}
    first = reports.describe_result(result(data=data))[0]
    assert first.kind == "remarks"
    assert first.body == ["12 of 1000 classes", "3 of 50 samples are bad, and were left out."]


def test_of_equally_hard_classes_those_with_most_pictures_stand_first():
    names, confusion = ("zero", "one", "two"), ((0, 2, 0), (0, 0, 5), (1, 0, 4))
    found = result(class_names=names, per_class=(0.0, 0.0, 0.8), confusion=confusion)
    table = section(reports.describe_result(found), "Classes")
    assert table.body["rows"] == [
        ["one", "0.0%", "5", "two 5"],
        ["zero", "0.0%", "2", "one 2"],
        ["two", "80.0%", "5", "zero 1"],
    ]
    none = replace(found, per_class=(0.0, 0.0, 0.0))
    note = section(reports.describe_result(none), "Classes").note
    assert note == "3 have none right; those with most pictures stand first."


def test_classes_without_names_are_called_by_their_numbers():
    found = result(class_names=(), per_class=(0.5, 1.0), confusion=((1, 1), (0, 2)))
    table = section(reports.describe_result(found), "Classes")
    assert table.body["rows"] == [["0", "50.0%", "2", "1 1"], ["1", "100.0%", "2", "—"]]


def test_mistakes_name_their_files():
    wrong = {"key": "cat/7.jpg", "true": "cat", "taken_for": "dog", "confidence": 0.9, "jpeg": ""}
    [cell] = section(reports.describe_result(result(mistakes=(wrong,))), "Surest mistakes").body
    assert (cell["text"], cell["detail"]) == ("cat, not dog (90%)", "cat/7.jpg")


def test_a_mistake_whose_picture_cant_be_read_is_told_without_it():
    wrong = {"true": "a", "taken_for": "b", "confidence": 0.9, "jpeg": "eHh4"}
    [cell] = section(reports.describe_result(result(mistakes=(wrong,))), "Surest mistakes").body
    assert (cell["jpeg"], cell["text"]) == ("", "a, not b (90%)")


def test_what_is_measured_while_training_is_drawn_and_summed_up():
    evaluation = {"a/val/top1": 0.25, "b/val/top1": 0.5, "b/val/mean_per_class": 0.4}
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "evaluation": evaluation, "val/loss": 1.25}]
    rows.append({"step": 3, "val/mean_recall": 0.125, "lr": 0.1})
    rows.append({"step": 3, "evaluation_failed": ["--evaluation.path x: it is gone"]})
    failed, headline, curves, _ = reports.describe_runs({"one": Run(steps=3)}, {"one": rows})
    assert headline.body["held-out loss"] == "1.250"
    assert headline.body["held-out mean recall"] == "12.5%"
    assert failed.body == ["one: --evaluation.path x: it is gone"]
    labels = [re.search(r'aria-label="([^"]*)"', chart)[1] for chart in curves.body]
    assert labels == [
        "loss over step",
        "held-out loss over step",
        "zero-shot accuracy (%) over step",
        "held-out mean recall (%) over step",
        "learning rate over step",
    ]
    both = reports.curves({"one": rows, "two": rows}).body
    assert len(both) == len(labels) + 1
    assert all(">one<" in chart and ">two<" in chart for chart in both)


def test_the_checkpoints_of_each_run_are_a_line_in_the_order_of_steps():
    results = []
    for run in ("runs/a/seed0", "runs/b/seed0"):
        for step, value in ((1000, 0.7), (200, 0.5), (90, 0.25)):
            model = {"name": f"/data/{run}/checkpoints/step-{step}"}
            model |= {"provenance": {"run": run, "step": step}}
            results.append(result(model=model, metrics={"top1": value}, class_names=("a", "b")))
    table = reports.board(results)
    [chart] = reports.progress(table, results).body
    assert all(f">{name}</text>" in chart for name in ("a/seed0", "b/seed0", "chance"))
    assert "pets: top1 (%)" in chart
    assert reports.progress(table, results[:1]) is None
    assert reports.progress(table, [replace(results[0], model={"name": "m"})]) is None
