"""Zero-shot scores against hand-computed cases and scikit-learn."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from torch.nn.functional import normalize

from diptych.evaluation import zero_shot
from diptych.evaluation import zero_shot as zero_shot_function
from diptych.evaluation.predictions import predict
from diptych.evaluation.zero_shot import ZeroShotResult


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_predictions_are_those_that_are_counted_where_a_softmax_rounds_them_together():
    """With a small scale two scores that differ by their last bit are one probability."""
    scores = torch.tensor([[0.5, 0.5 + 2**-24, 0.1]])
    counted = zero_shot(scores, torch.tensor([1]), torch.eye(3))
    found = predict(scores, torch.tensor([1]), torch.eye(3), scale=0.01)
    assert counted.confusion[1].tolist() == [0, 1, 0]
    assert found.predicted.tolist() == [1]
    assert found.confidence == torch.softmax(0.01 * scores, 1)[:, 1]


def test_a_case_counted_by_hand():
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    result = zero_shot(images, torch.tensor([0, 1, 1, 1]), torch.eye(2))
    assert result.confusion.tolist() == [[1, 0], [1, 2]]
    assert result.top1 == 3 / 4
    assert result.mean_per_class == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert result.top5 == 1.0
    assert result.counts.tolist() == [1, 3]


def test_equals_scikit_learn():
    images, classes = vectors(500, 8), vectors(12, 8, seed=1)
    labels = torch.randint(0, 12, (500,), generator=torch.Generator().manual_seed(2))
    result = zero_shot(images, labels, classes)
    scores = (images @ classes.T).numpy()
    predicted = scores.argmax(1)
    assert result.top1 == pytest.approx((predicted == labels.numpy()).mean())
    assert result.top5 == pytest.approx(top_k_accuracy_score(labels.numpy(), scores, k=5))
    assert result.mean_per_class == pytest.approx(
        balanced_accuracy_score(labels.numpy(), predicted)
    )
    assert (
        result.confusion.tolist()
        == confusion_matrix(labels.numpy(), predicted, labels=range(12)).tolist()
    )


def test_tiles_change_nothing(monkeypatch):
    images, classes = vectors(100, 8), vectors(12, 8, seed=1)
    labels = torch.arange(100) % 12
    whole = zero_shot(images, labels, classes)
    monkeypatch.setitem(zero_shot_function.__globals__, "_TILE", 12 * 7)
    tiled = zero_shot(images, labels, classes)
    assert tiled.confusion.equal(whole.confusion)
    assert (tiled.top1, tiled.top5) == (whole.top1, whole.top5)


def test_of_equal_classes_the_first_wins():
    """Two classes of one name, as ImageNet's two `missile`s: all pictures go to the first, in rank
    and prediction."""
    classes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    result = zero_shot(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), classes)
    assert result.top1 == 0.5
    assert result.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_a_collapsed_model_is_at_chance():
    """One vector for everything must not look right."""
    result = zero_shot(torch.ones(100, 1), torch.arange(100) % 10, torch.ones(10, 1))
    assert result.top1 == pytest.approx(0.1)
    assert result.top5 == pytest.approx(0.5)


def test_classes_without_pictures_are_left_out_of_the_mean():
    result = zero_shot(torch.eye(3)[[0, 2]], torch.tensor([0, 2]), torch.eye(3))
    assert result.mean_per_class == 1.0
    assert isinstance(result, ZeroShotResult)
    assert result.per_class[1].isnan()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_vectors_are_refused(bad):
    """Comparisons with NaN are all False: counted as ranks they would be perfect."""
    with pytest.raises(AssertionError, match="finite"):
        zero_shot(torch.full((2, 2), bad), torch.tensor([0, 1]), torch.eye(2))
