"""Average precision beside scikit-learn, and by hand."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from diptych.evaluation.precision import average_precision


def test_it_is_scikit_learns_where_scores_differ():
    torch.manual_seed(0)
    scores, truth = torch.randn(200, 5), torch.rand(200, 5) < 0.2
    expected = [average_precision_score(truth[:, c], scores[:, c]) for c in range(5)]
    assert average_precision(scores, truth).tolist() == pytest.approx(expected, abs=1e-12)


def test_eleven_points_by_hand():
    truth = torch.tensor([[True], [False], [True], [False]])
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    # Recall 0 to 0.5 at precision 1; 0.6 to 1 at 2/3.
    assert average_precision(scores, truth, eleven_points=True).item() == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_equal_scores_help_nobody_and_a_class_without_pictures_is_no_number():
    truth = torch.tensor([[True, False], [False, False]])
    found = average_precision(torch.ones(2, 2), truth)
    assert found[0].item() == 0.5
    assert found[1].isnan()
