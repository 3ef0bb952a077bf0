"""Confidence intervals and per-sample results that results carry."""

import numpy as np
import pytest
import torch

from diptych.datasets import open_own
from diptych.errors import DataError
from diptych.evaluation import (
    Result,
    bootstrap_mean,
    bootstrap_means,
    retrieval,
    zero_shot,
)
from diptych.evaluation.engine import Engine
from diptych.evaluation.per_sample import PerSample
from diptych.evaluation.scorers import choice_intervals, recall_intervals
from diptych.evaluation.scores import class_intervals
from diptych.evaluation.tasks import Task
from tests import tiny


def test_ranks_and_intervals_of_classes():
    vectors, labels = torch.eye(8)[[0, 1, 2, 3, 4, 5, 6, 7]], torch.tensor([0, 1, 2, 3, 7, 4, 5, 6])
    found = zero_shot(vectors, labels, torch.eye(8))
    # The class's own vector stands first, and of the equal others the earlier ones.
    assert found.ranks.tolist() == [0, 0, 0, 0, 7, 5, 6, 7]
    per_sample = PerSample.of(found.ranks.numpy(), list("abcdefgh"))
    intervals = class_intervals(per_sample, labels)
    assert per_sample.correct().tolist() == [True] * 4 + [False] * 4
    for name, value in (
        ("top1", 0.5),
        ("top5", 0.5),
        ("mean_top1_top5", 0.5),
        ("mean_per_class", 0.5),
    ):
        low, high = intervals[name]
        assert 0 <= low <= value <= high <= 1
    assert intervals["top1"][1] - intervals["top1"][0] > 0.3, "eight pictures say little"


def test_recalls_are_drawn_by_picture():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    owners = torch.arange(60).repeat_interleave(5)
    texts = pictures[owners] + 0.6 * torch.randn(300, 8, generator=generator)
    found = retrieval(pictures, torch.nn.functional.normalize(texts, dim=1), owners)
    intervals, per_sample = recall_intervals(found, owners, [str(i) for i in range(60)])
    assert intervals.keys() == {
        f"{way}_r{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)
    } | {"mean_recall"}
    assert intervals["mean_recall"][0] < found.mean_recall < intervals["mean_recall"][1]
    assert per_sample["text_to_image_r1"].correct().mean() == pytest.approx(found.text_to_image[1])
    assert per_sample["image_to_text_r1"].correct(5).mean() == pytest.approx(found.image_to_text[5])
    assert per_sample["text_to_image_r1"].clusters.tolist() == owners.tolist()


def test_a_mean_of_means_is_one_mean_where_there_is_one():
    values, clusters = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 2])
    assert bootstrap_means([(values, clusters)]) == bootstrap_mean(values, clusters)
    both = bootstrap_means([(values, clusters), (1 - np.array([0.5, 1.0, 1.0]), np.arange(3))])
    assert both.value == pytest.approx((3 / 4 + 1 / 6) / 2)
    assert both.low <= both.value <= both.high


def test_choices_that_were_right():
    intervals, per_sample = choice_intervals([True, True, False, True], list("abcd"))
    assert per_sample["choice"].correct().tolist() == [True, True, False, True]
    assert intervals["choice"][0] < 0.75 < intervals["choice"][1]


def test_a_result_keeps_its_per_sample_results_beside_it(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    dataset, engine = open_own(tmp_path / "data"), Engine()
    [extractor] = engine.extractors(tiny.encoder()).values()
    [result] = engine.measure(Task(name="data", data="data"), {"test": dataset}, [extractor])
    assert result.intervals.keys() == result.metrics.keys()
    path = result.save(tmp_path / "out [1]" / "a.json")
    result.save(tmp_path / "out [1]" / "a.b.json")
    found = Result.load(path)
    assert found == result
    assert found.per_sample.keys() == {"top1"}
    assert found.per_sample["top1"].correct().mean() == pytest.approx(result.metrics["top1"])
    (tmp_path / "out [1]" / "a.top1.npz").write_bytes(b"junk")
    with pytest.raises(DataError, match="holds no per-sample results"):
        Result.load(path)
    (tmp_path / "out [1]" / "a.top1.npz").unlink()
    assert Result.load(path).per_sample == {}
