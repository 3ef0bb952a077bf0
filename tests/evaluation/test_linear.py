"""The linear probe against scikit-learn at the same objective."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from diptych.errors import DataError
from diptych.evaluation import coordinates, fit_probe, linear_probe
from diptych.evaluation.coordinates import Coordinates
from diptych.evaluation.logistic import Problem


def clusters(
    n: int, width: int, classes: int, seed: int = 0, noise: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors in a cone, as CLIP's are, with unequal directions; labels."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=generator)
    generator = torch.Generator().manual_seed(seed + 1)
    labels = torch.randint(0, classes, (n,), generator=generator)
    spread = noise * torch.randn(n, width, generator=generator) * torch.linspace(2, 0.2, width)
    vectors = centres[labels] + spread + 3.0
    return vectors / vectors.norm(dim=1, keepdim=True), labels


def peer(vectors: torch.Tensor, labels: torch.Tensor, strength: float) -> LogisticRegression:
    """Its default tolerance can end at chance: features this small have gradients below it from the
    start."""
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=20_000)
    return model.fit(vectors.double().numpy(), labels.numpy())


@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_scikit_learns_optimum(strength, dtype):
    (train, labels), (test, _) = clusters(600, 20, 5), clusters(400, 20, 5, seed=1)
    train, test = train.to(dtype), test.to(dtype)
    probe, other = fit_probe(train, labels, strengths=[strength]), peer(train, labels, strength)
    gap = np.linalg.norm(probe.weights.T.numpy() - other.coef_) / np.linalg.norm(other.coef_)
    assert gap < 1e-3
    assert (
        np.abs(probe.bias.numpy() - (other.intercept_ - other.intercept_.mean())).max()
        < 1e-3 * np.abs(other.coef_).max()
    )
    assert (probe.predict(test).numpy() == other.predict(test.double().numpy())).all()
    assert probe.gradient < 1e-6
    assert probe.decrement < 1e-5


def test_two_classes_have_half_of_scikit_learns_strength():
    vectors, labels = clusters(200, 8, 2)
    probe, other = fit_probe(vectors, labels, strengths=[5.0]), peer(vectors, labels, 10.0)
    assert (probe.weights[:, 1] - probe.weights[:, 0]).numpy() == pytest.approx(
        other.coef_[0], rel=1e-3
    )


def test_features_of_another_scale_and_place_get_the_same_classifier():
    vectors, labels = clusters(200, 8, 3)
    probe, far = fit_probe(vectors, labels), fit_probe(10 * vectors + 5, labels)
    assert list(far.path.values()) == list(probe.path.values())
    assert far.strength == pytest.approx(probe.strength / 100, rel=1e-3)
    torch.testing.assert_close(far.weights * 10, probe.weights, rtol=1e-3, atol=1e-3)


def test_the_penalty_is_the_best_on_held_out_samples():
    """A sweep that is given equals scikit-learn's: each strength's accuracy, and the choice."""
    (train, labels), held = clusters(200, 20, 4, noise=3.0), clusters(400, 20, 4, seed=1, noise=3.0)
    strengths = [0.1, 1.0, 10.0, 100.0]
    probe = fit_probe(train, labels, validation=held, strengths=strengths, refit=False)
    accuracies = {
        c: peer(train, labels, c).score(held[0].numpy(), held[1].numpy()) for c in strengths
    }
    assert list(probe.path) == strengths[: len(probe.path)]
    assert all(abs(probe.path[c] - accuracies[c]) < 0.05 for c in probe.path)  # two standard errors
    assert accuracies[probe.strength] >= max(accuracies.values()) - 0.02


@pytest.mark.parametrize("ridge", [1e-2, 1e-4, 1e-6])
def test_products_in_bfloat16_lead_to_the_optimum_of_float32(ridge, monkeypatch):
    """Whatever this processor multiplies in."""
    vectors, labels = clusters(300, 20, 5, noise=2.0)
    problem = Problem(
        features=vectors, labels=labels, classes=5, coordinates=Coordinates.of(vectors)
    )
    found = []
    for bfloat16 in (True, False):
        monkeypatch.setattr(
            coordinates, "_multiplies_bfloat16", lambda device, answer=bfloat16: answer
        )
        assert coordinates.quick_type(vectors) == (torch.bfloat16 if bfloat16 else torch.float32)
        found.append(problem.minimise(ridge))
    quick, plain = found
    assert quick.decrement < 1e-5
    assert (quick.weights - plain.weights).norm() < 1e-3 * plain.weights.norm()


def test_weak_penalties_are_not_left_early():
    """Where the classes can be separated the objective is near zero, and so is all that is left to
    gain: an early end is a penalty of its own, and would pass for a weak one that works well."""
    vectors, labels = clusters(100, 100, 6, noise=4.0)
    problem = Problem(
        features=vectors, labels=labels, classes=6, coordinates=Coordinates.of(vectors)
    )
    start = None
    for ridge in (1e-3, 1e-5, 1e-7):
        start = problem.minimise(ridge, start, tolerance=5e-2, exact=False)
        assert start.loss < 1.01 * problem.minimise(ridge).loss


def test_a_sweep_ends_where_samples_are_learned_by_heart_and_nothing_is_gained():
    (train, labels), held = (
        clusters(300, 100, 6, noise=6.0),
        clusters(400, 100, 6, seed=1, noise=6.0),
    )
    strengths = [10.0**power for power in range(8)]
    probe = fit_probe(train, labels, validation=held, strengths=strengths)
    skipped = [
        fit_probe(train, labels, strengths=[c]).accuracy(*held)
        for c in strengths[len(probe.path) :]
    ]
    assert skipped
    best = max(probe.path.values())
    assert max(skipped) < best + 2 * (best * (1 - best) / len(held[1])) ** 0.5


def test_a_sweep_ends_where_all_that_was_held_out_is_right():
    vectors, labels = torch.eye(5).repeat(20, 1), torch.arange(5).repeat(20)
    probe = fit_probe(vectors, labels, strengths=[10.0**power for power in range(-4, 7)])
    *weaker, last = probe.path.values()
    assert last == 1
    assert all(accuracy < 1 for accuracy in weaker)
    assert probe.strength == max(probe.path)


def test_a_refit_after_learning_by_heart_is_the_fit_from_nothing():
    """Its start is sure of the held-out samples, and wrong about many."""
    vectors, labels = clusters(400, 60, 6, noise=6.0)
    probe = fit_probe(vectors, labels, strengths=[1e5, 1e6])
    straight = fit_probe(vectors, labels, strengths=[probe.strength])
    assert probe.decrement < 1e-5
    assert (probe.weights - straight.weights).norm() < 1e-3 * straight.weights.norm()


def test_held_out_samples_come_from_every_class_whatever_the_order():
    """Every fifth sample of the whole would be one class here."""
    vectors, labels = torch.eye(5).repeat(20, 1), torch.arange(5).repeat(20)
    assert max(fit_probe(vectors, labels).path.values()) == 1.0


def test_labels_that_do_not_occur_are_never_answered():
    vectors, labels = clusters(200, 8, 3)
    probe = fit_probe(vectors, 2 * labels + 5)
    assert probe.labels.tolist() == [5, 7, 9]
    assert linear_probe(vectors, 2 * labels + 5, vectors, 2 * labels + 5) == probe.accuracy(
        vectors, 2 * labels + 5
    )


def test_half_precision_features_are_taken():
    vectors, labels = clusters(200, 8, 3)
    assert fit_probe(vectors.half(), labels, strengths=[10.0]).decrement < 1e-5


def test_too_few_are_refused():
    with pytest.raises(DataError, match="two classes or more, there are 1"):
        fit_probe(torch.randn(10, 3), torch.zeros(10, dtype=torch.long))
    with pytest.raises(DataError, match="no class has five training samples"):
        fit_probe(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))
