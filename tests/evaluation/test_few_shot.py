"""Draws of a few samples."""

import math

import pytest
import torch

from diptych.errors import DataError
from diptych.evaluation import FewShot, few_shot
from tests.evaluation.test_linear import clusters


def test_more_shots_are_better_and_seeds_are_kept():
    train, test = clusters(300, 16, 4, noise=2.0), clusters(200, 16, 4, seed=1, noise=2.0)
    found = few_shot(*train, *test, shots=(1, 16), draws=3)
    assert [probe.shots for probe in found] == [1, 16]
    assert all(len(probe.accuracies) == 3 for probe in found)
    assert found[1].mean > found[0].mean
    assert few_shot(*train, *test, shots=(1,), draws=1)[0].accuracies[0] == pytest.approx(
        few_shot(*train, *test, shots=(1,), draws=3)[0].accuracies[0]
    )


def test_the_interval_is_students():
    probe = FewShot(shots=1, accuracies=(0.4, 0.5, 0.6))
    assert probe.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert math.isnan(FewShot(shots=1, accuracies=(0.4,)).half_width)


def test_a_classifier_of_more_classes_is_asked_about_some_of_them():
    """Classes 3 and 1 of four, in that order; what lies nearest to class 2 is class 3's picture."""
    vectors, labels = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
    test = torch.tensor([[0.0, 0.0, 1.0, 0.9], [0.0, 1.0, 0.0, 0.0]])
    shots = {"shots": (1,), "draws": 1}
    [found] = few_shot(vectors, labels, test, torch.tensor([0, 1]), among=(3, 1), **shots)
    assert found.accuracies == (1.0,)
    [found] = few_shot(vectors, labels, test, torch.tensor([1, 2]), among=(9, 3, 1), **shots)
    assert found.accuracies == (1.0,)
    with pytest.raises(DataError, match="no training pictures of the classes that are tested"):
        few_shot(vectors, labels, test, torch.tensor([0, 1]), among=(8, 9), **shots)


def test_too_small_a_class_is_named():
    vectors, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    with pytest.raises(DataError, match="class 0 has 4 training samples, but 4 shots .* need 8"):
        few_shot(vectors, labels, vectors, labels, shots=(1, 4))
    with pytest.raises(DataError, match="class cat has 4 training samples"):
        few_shot(vectors, labels, vectors, labels, shots=(4,), names=("cat", "dog", "ship"))
