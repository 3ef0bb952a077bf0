"""Scores against cases counted by hand, and scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from diptych.evaluation import (
    average_precision,
    calibration,
    caption_choice,
    choices,
    roc_auc,
)


def ranked(*truth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One class; the best score first."""
    return torch.arange(len(truth), 0, -1.0)[:, None], torch.tensor(truth).bool()[:, None]


def test_average_precision_by_hand():
    scores, truth = ranked(1, 0, 1, 0, 0, 1)
    assert average_precision(scores, truth).item() == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    # Recall 0 .. 0.3 is met at rank 1, 0.4 .. 0.6 at rank 3, 0.7 .. 1 at rank 6.
    assert average_precision(scores, truth, points=11).item() == pytest.approx(
        (4 * 1 + 3 * 2 / 3 + 4 * 1 / 2) / 11
    )


def test_interpolation_takes_the_best_precision_further_on():
    scores, truth = ranked(0, 1, 1)
    assert average_precision(scores, truth, points=11).item() == pytest.approx(2 / 3)


def test_a_recall_of_three_tenths_is_three_of_ten():
    scores, truth = ranked(1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *[1] * 7)
    after = 10 / 20
    assert average_precision(scores, truth, points=11).item() == pytest.approx(
        (4 * 1 + 7 * after) / 11
    )


def test_average_precision_equals_scikit_learn_with_ties():
    generator = torch.Generator().manual_seed(0)
    scores, truth = (
        torch.randint(0, 9, (80, 3), generator=generator) / 8,
        torch.rand(80, 3, generator=generator) < 0.3,
    )
    found = average_precision(scores, truth).tolist()
    assert found == pytest.approx(
        [average_precision_score(truth[:, c], scores[:, c]) for c in range(3)]
    )
    assert math.isnan(average_precision(scores, torch.zeros(80, 3, dtype=torch.bool))[0])


def test_roc_auc_by_hand_and_by_scikit_learn():
    # Pairs of positive 0.8 and 0.3 with negative 0.5 and 0.3: right, right, wrong, half.
    scores, truth = torch.tensor([0.8, 0.5, 0.3, 0.3]), torch.tensor([1, 0, 1, 0]).bool()
    assert roc_auc(scores, truth) == pytest.approx(2.5 / 4)
    generator = torch.Generator().manual_seed(0)
    scores, truth = (
        torch.randint(0, 20, (300,), generator=generator) / 7,
        torch.rand(300, generator=generator) < 0.4,
    )
    assert roc_auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert math.isnan(roc_auc(scores, torch.ones(300, dtype=torch.bool)))


def test_choices_by_hand():
    both = [[2.0, 1.0], [1.0, 2.0]]
    only_text = [[2.0, 5.0], [1.0, 6.0]]  # the first caption prefers the second picture
    only_image = [[2.0, 1.0], [5.0, 6.0]]  # the first picture prefers the second caption
    tie = [[1.0, 1.0], [1.0, 1.0]]
    found = choices(torch.tensor([both, only_text, only_image, tie]))
    assert (found.text, found.image, found.group) == (2 / 4, 2 / 4, 1 / 4)
    assert (
        caption_choice(torch.tensor([0.5, 0.5, 0.6, 0.1]), torch.tensor([0.4, 0.5, 0.7, 0.0]))
        == 2 / 4
    )


def test_calibration_by_hand():
    found = calibration(
        torch.tensor([0.2, 0.4, 0.9, 1.0]), torch.tensor([0, 1, 1, 1]).bool(), bins=2
    )
    assert found.counts.tolist() == [2, 2]
    assert found.accuracy.tolist() == pytest.approx([0.5, 1.0])
    assert found.confidence.tolist() == pytest.approx([0.3, 0.95])
    assert found.error == pytest.approx((2 * 0.2 + 2 * 0.05) / 4)
    assert calibration(
        torch.full((4,), 1.0), torch.tensor([1, 1, 0, 0]).bool()
    ).error == pytest.approx(0.5)
