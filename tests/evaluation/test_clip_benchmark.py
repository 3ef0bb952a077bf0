"""CLIP_benchmark's files, there and back."""

import json

import pytest

from diptych.errors import DataError
from diptych.evaluation import Result, from_clip_benchmark, to_clip_benchmark

RECALLS = {
    f"{way}_r{k}": k / 10 - shift
    for way, shift in (("image_to_text", 0.0), ("text_to_image", 0.05))
    for k in (1, 5, 10)
}


def result(task: str, metrics: dict[str, float], classes: int = 0) -> Result:
    names = tuple(map(str, range(classes)))
    return Result(
        task=task,
        metrics=metrics,
        protocol={},
        data={"name": "set"},
        model={"name": "m"},
        class_names=names,
    )


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("zero-shot", {"top1": 0.5, "top5": 0.75, "mean_per_class": 0.25}),
        ("retrieval", RECALLS | {"mean_recall": sum(RECALLS.values()) / 6}),
        ("linear", {"top1": 0.5, "top5": 0.75, "mean_per_class": 0.25}),
        ("multilabel", {"map": 0.5}),
    ],
)
def test_there_and_back(task, metrics):
    back = from_clip_benchmark(to_clip_benchmark(result(task, metrics, classes=10)))
    assert back.task == task
    assert back.metrics == pytest.approx(metrics)
    assert back.data["name"] == "set"


def test_its_names_for_retrieval_are_the_other_way_round():
    metrics = json.loads(to_clip_benchmark(result("retrieval", RECALLS)))["metrics"]
    assert metrics["image_retrieval_recall@1"] == RECALLS["text_to_image_r1"]
    assert metrics["text_retrieval_recall@10"] == RECALLS["image_to_text_r10"]


def test_with_few_classes_the_fifth_says_nothing():
    text = to_clip_benchmark(result("zero-shot", {"top1": 0.5, "top5": 1.0}, classes=4))
    assert json.loads(text)["metrics"] == {"acc1": 0.5}
    theirs = json.dumps(json.loads(text) | {"metrics": {"acc1": 0.5, "acc5": float("nan")}})
    assert from_clip_benchmark(theirs).metrics == {"top1": 0.5}


def test_what_else_a_probe_says_is_kept():
    values = {
        "dataset": "wds/vtab/dtd",
        "model": "m",
        "pretrained": "p",
        "task": "linear_probe",
        "language": "en",
    }
    found = from_clip_benchmark(
        json.dumps(values | {"metrics": {"lp_acc1": 0.8, "fewshot_k": -1, "weight_decay": 0.1}})
    )
    assert found.metrics == {"top1": 0.8}
    assert (found.protocol["weight_decay"], found.data["name"]) == (0.1, "vtab/dtd")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"task": "captioning", "metrics": {}}', '{"task": 3}']
)
def test_anything_else_is_refused(text):
    with pytest.raises(DataError, match="not a result of CLIP_benchmark"):
        from_clip_benchmark(text)


def test_a_task_that_it_lacks_is_refused():
    with pytest.raises(DataError, match="has no task"):
        to_clip_benchmark(result("choice", {"choice": 0.5}))
