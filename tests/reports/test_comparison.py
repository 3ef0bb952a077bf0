"""Models against each other."""

from dataclasses import replace

import numpy as np

from diptych import reports
from diptych.evaluation import PerSample, Result

NAMES = [f"{i}.jpg" for i in range(400)]


def measured(model: str, name: str, right: int, task: str = "zero-shot") -> Result:
    return Result(
        task=task,
        metrics={"top1": right / 400},
        protocol={"metric": "top1", "resize": "crop"},
        data={"name": name},
        model={"name": model},
        per_sample={"top1": PerSample.of((np.arange(400) >= right).astype(int), NAMES)},
    )


def test_what_is_real_and_what_is_not():
    results = [
        measured("best", "pets", 300),
        measured("near", "pets", 297),
        measured("far", "pets", 200),
    ]
    section = reports.differences(reports.board(results), results)
    assert section is not None
    rows = {row[1]: row for row in section.body["rows"]}
    assert (rows["far, crop"][2], rows["far, crop"][5]) == ("-25.00", "worse")
    assert (rows["near, crop"][2], rows["near, crop"][5]) == ("-0.75", "no real difference")
    assert "best, crop" in section.note
    assert rows.keys() == {"far, crop", "near, crop"}


def test_other_samples_and_one_model_alone_are_not_compared():
    one, other = measured("a", "pets", 300), measured("b", "pets", 200)
    ranks = other.per_sample["top1"].ranks
    strange = replace(other, per_sample={"top1": PerSample.of(ranks, NAMES[::-1])})
    bare = [replace(result, per_sample={}) for result in (one, other)]
    for results in ([one, strange], [one], bare):
        assert reports.differences(reports.board(results), results) is None


def test_of_a_cell_that_was_measured_twice_the_newest_counts():
    old, new, other = (
        measured("a", "pets", 100),
        measured("a", "pets", 300),
        measured("b", "pets", 200),
    )
    results = [new, other, replace(old, date="2020-01-01T00:00:00+00:00")]
    section = reports.differences(reports.board(results), results)
    assert section is not None
    assert [row[1:3] for row in section.body["rows"]] == [["b, crop", "-25.00"]]


def test_shifts_of_zero_shot_and_of_probes():
    accuracies = {"imagenet1k": 320, "imagenet-v2": 280, "imagenet-a": 200}
    results = [measured("a", name, right) for name, right in accuracies.items()]
    results += [measured("a", name, 360, task="linear") for name in ("imagenet1k", "imagenet-v2")]
    section = reports.shifts(reports.board(results))
    assert section is not None
    rows = {row[0]: dict(zip(section.body["columns"], row)) for row in section.body["rows"]}
    assert [rows["a, crop"][name] for name in accuracies] == ["80.0", "70.0", "50.0"]
    assert [rows["a, crop, linear probe"][name] for name in accuracies] == ["90.0", "90.0", "—"]
    assert reports.shifts(reports.board(results[:1])) is None
