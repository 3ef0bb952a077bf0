"""Linear probes: how well a linear classifier reads the pictures' vectors, whatever the words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.errors import DataError
from diptych.evaluation.coordinates import Coordinates, working_type
from diptych.evaluation.logistic import Optimum, Problem

DECADES = tuple(10.0**power for power in range(-2, 7))
"""Inverse penalties that are tried for features of variance 1: from none of the data's say to
nearly all."""
_HALVINGS = 2
"""How often the steps around the best decade are halved: the last are 10^(1/4)."""
_ROUGH = 5e-2
"""Tolerance of the sweep: a thousandth of the objective above its minimum."""
_NEAR = 1e-2
"""Where float32 gives way to float64."""
_OVERFITTED = 0.01
"""A share of chance's objective, log(classes). Below it the training samples are learned by heart
whatever the penalty."""


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Softmax regression at its optimum, with the penalty that was best on held-out samples.

        min_{W, b}  strength * sum_i [logsumexp_c z_ic - z_i,y_i] + |W|² / 2,    z_i = W' x_i + b

    which is what scikit-learn's LogisticRegression(C=strength) minimises; with two classes its C is
    2 * strength.
    """

    weights: Float[Tensor, "width classes"]
    bias: Float[Tensor, " classes"]
    labels: Int[Tensor, " classes"]
    """the label that each column stands for: those that occur"""
    strength: float
    """inverse penalty"""
    path: dict[float, float]
    """strength -> accuracy on held-out samples, from the strongest penalty to the weakest; empty if
    none was chosen"""
    gradient: float
    """largest entry of the gradient of objective / (strength * n), in absolute value: 0 at the
    optimum"""
    decrement: float
    """half its square is about how many nats a sample the objective / (strength * n) lies above its
    minimum"""
    iterations: int
    """Newton steps, of the sweep and of the last fit"""
    passes: int
    """over the training features, two matrix products each, of the sweep and of the last fit"""

    def scores(self, features: Float[Tensor, "n width"]) -> Float[Tensor, "n classes"]:
        """Logits, one column for each of `labels`."""
        weights = self.weights.to(features.device, working_type(features))
        return torch.addmm(self.bias.to(weights), features.to(weights.dtype), weights)

    def predict(self, features: Float[Tensor, "n width"]) -> Int[Tensor, " n"]:
        """Labels."""
        return self.labels.to(features.device)[self.scores(features).argmax(1)]

    def among(self, labels: Sequence[int]) -> "LinearProbe":
        """The same classifier, asked about these labels alone: it predicts their places in
        `labels`. Raises DataError if it was trained on none of them."""
        asked = torch.tensor(labels)
        known = torch.isin(asked, self.labels)
        if not known.any():
            raise DataError("there are no training pictures of the classes that are tested")
        columns = torch.searchsorted(self.labels, asked[known])
        places = known.nonzero()[:, 0]
        return replace(
            self, weights=self.weights[:, columns], bias=self.bias[columns], labels=places
        )

    def accuracy(self, features: Float[Tensor, "n width"], labels: Int[Tensor, " n"]) -> float:
        """Share of right answers, in [0, 1]."""
        return (self.predict(features) == labels.to(features.device)).double().mean().item()


def linear_probe(
    train: Float[Tensor, "n width"],
    train_labels: Int[Tensor, " n"],
    test: Float[Tensor, "m width"],
    test_labels: Int[Tensor, " m"],
    strengths: Sequence[float] = (),
) -> float:
    """Accuracy on `test`, in [0, 1], of the classifier that `fit_probe` finds.

    >>> import torch
    >>> from diptych.evaluation import linear_probe
    >>> vectors, labels = torch.eye(4).repeat(10, 1), torch.arange(4).repeat(10)
    >>> linear_probe(vectors, labels, torch.eye(4), torch.arange(4))
    1.0
    """
    return fit_probe(train, train_labels, strengths=strengths).accuracy(test, test_labels)


def fit_probe(
    features: Float[Tensor, "n width"],
    labels: Int[Tensor, " n"],
    *,
    validation: tuple[Float[Tensor, "m width"], Int[Tensor, " m"]] | None = None,
    strengths: Sequence[float] = (),
    refit: bool = True,
    coordinates: Coordinates | None = None,
) -> LinearProbe:
    """Choose the penalty on held-out samples, then fit (Radford et al. 2021, arXiv:2103.00020,
    appendix A.3).

    Held out is `validation`, or else every fifth sample of each class. `strengths` are tried from
    the strongest penalty to the weakest, each from the solution before, until all held-out samples
    are right, or two in a row fall below the best, or one by two standard errors, or samples are
    learned by heart and one gains less than that: weak penalties take the most time. Empty:
    decades, relative to the features' variance (so unit vectors and others get the same
    classifiers), and steps that are halved around the best. One strength is taken as it is. With
    `refit` the last fit uses held-out samples as well. Work is done on the features' device;
    float16 and bfloat16 are computed with in float32.

    `coordinates` are a matter of speed only: those of a larger set of the same features can be used
    again. Raises DataError if fewer than two classes occur, or nothing can be held out.

    >>> import torch
    >>> from diptych.evaluation import fit_probe
    >>> vectors, labels = torch.eye(4).repeat(10, 1), torch.arange(4).repeat(10)
    >>> probe = fit_probe(vectors, labels)
    >>> probe.predict(torch.eye(4)).tolist(), probe.gradient < 1e-6, max(probe.path.values())
    ([0, 1, 2, 3], True, 1.0)
    """
    assert len(labels) == len(features), f"{len(features)} vectors, {len(labels)} labels"
    assert features.isfinite().all(), "a vector is not finite"
    labels = labels.to(features.device)
    fitted, held = (
        ((features, labels), validation)
        if validation or len(strengths) == 1
        else _split(features, labels)
    )
    coordinates = coordinates or Coordinates.of(features)
    found = dict[float, tuple[float, Optimum]]()
    if len(strengths) != 1:
        assert held is not None
        problem, present = _problem(*fitted, coordinates)
        found = _sweep(problem, present, held, sorted(strengths))
    # Of equally accurate strengths the strongest penalty wins, which `sorted` puts first.
    best = max(sorted(found), key=lambda strength: found[strength][0]) if found else strengths[0]
    if refit and held is not None:
        fitted = (
            torch.cat([fitted[0], held[0].to(fitted[0])]),
            torch.cat([fitted[1], held[1].to(fitted[1])]),
        )
    problem, present = _problem(*fitted, coordinates)
    starts = _continuation(problem, best, found)
    final = problem.minimise(_ridge(problem, best), starts[-1])
    work = [*(optimum for _, optimum in found.values()), *starts, final]
    return LinearProbe(
        weights=final.weights,
        bias=final.bias,
        labels=present.cpu(),
        strength=best,
        path={strength: found[strength][0] for strength in sorted(found)},
        gradient=final.gradient,
        decrement=final.decrement,
        iterations=sum(optimum.steps for optimum in work),
        passes=sum(optimum.passes for optimum in work),
    )


def _sweep(
    problem: Problem, present: Tensor, held: tuple[Tensor, Tensor], strengths: Sequence[float]
) -> dict[float, tuple[float, Optimum]]:
    """strength -> accuracy on `held`, and the solution."""
    found = dict[float, tuple[float, Optimum]]()

    def visit(strength: float) -> None:
        below = max((other for other in found if other < strength), default=None)
        above = min((other for other in found if other > strength), default=None)
        start = _middle([found[other][1] for other in (below, above) if other is not None])
        optimum = problem.minimise(_ridge(problem, strength), start, tolerance=_ROUGH, exact=False)
        weights = optimum.weights.to(working_type(held[0]))
        guesses = present[(held[0].to(weights) @ weights + optimum.bias.to(weights)).argmax(1)]
        found[strength] = ((guesses == held[1].to(guesses)).double().mean().item(), optimum)

    # Relative to the total variance: features of another length get the same classifiers.
    variance = float(problem.coordinates.spectrum.sum())
    best, worse = 0.0, 0
    for strength in strengths or [decade / variance for decade in DECADES]:
        visit(strength)
        accuracy, optimum = found[strength]
        if accuracy == 1:  # which no weaker penalty betters, and of equals the strongest wins
            break
        gain, best = accuracy - best, max(accuracy, best)
        worse = worse + 1 if gain < 0 else 0
        # Two standard errors of a share: less than that may be chance in which samples are held.
        matters = 2 * math.sqrt(best * (1 - best) / len(held[1]))
        if worse == 2 or gain < -matters or (_overfitted(problem, optimum) and gain < matters):
            break
    # Accuracy is flat near its top, so finer steps than 10^(1/4) wouldn't be told apart.
    for halving in range(0 if strengths else _HALVINGS):
        best = max(sorted(found), key=lambda strength: found[strength][0])
        factor = 10 ** (0.5 ** (halving + 1))
        for strength in (best / factor, best * factor):
            visit(strength)
    return found


def _continuation(
    problem: Problem, best: float, found: dict[float, tuple[float, Optimum]]
) -> list[Optimum]:
    """Solutions for ever weaker penalties, each the start of the next, the last near the one for
    `best`.

    Samples that were held out, and that an overfitted solution is certain of and wrong about, have
    no curvature left and send Newton's steps astray. So the path starts before that.
    """
    start, decades = None, 1
    if found and found[best][1].weights.shape[1] == problem.classes:
        first = max(
            (s for s in found if s <= best and not _overfitted(problem, found[s][1])),
            default=min(found),
        )
        start, decades = found[first][1], max(1, math.ceil(math.log10(best / first)))
    path = list[Optimum]()
    for decade in reversed(range(decades)):
        tolerance = _ROUGH if decade else _NEAR
        start = problem.minimise(
            _ridge(problem, best / 10**decade), start, tolerance=tolerance, exact=False
        )
        path.append(start)
    return path


def _overfitted(problem: Problem, optimum: Optimum) -> bool:
    """Whether the objective is next to nothing beside that of a guess."""
    return optimum.loss < _OVERFITTED * math.log(problem.classes)


def _middle(optima: list[Optimum]) -> Optimum | None:
    """The mean of the weights is a good start in between."""
    if len(optima) < 2:
        return optima[0] if optima else None
    one, other = optima
    return replace(one, weights=(one.weights + other.weights) / 2, bias=(one.bias + other.bias) / 2)


def _problem(features: Tensor, labels: Tensor, coordinates: Coordinates) -> tuple[Problem, Tensor]:
    """And the labels that occur, in order."""
    present, places = labels.unique(return_inverse=True)
    if len(present) < 2:
        raise DataError(
            f"a linear probe needs samples of two classes or more, there are {len(present)}"
        )
    return Problem(
        features=features, labels=places, classes=len(present), coordinates=coordinates
    ), present


def _ridge(problem: Problem, strength: float) -> float:
    """scikit-learn's C multiplies the sum of losses; the ridge is beside their mean."""
    return 1 / (strength * len(problem.labels))


def _split(features: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Every fifth sample of each class is held out."""
    order = labels.argsort(stable=True)
    counts = labels.unique(return_counts=True)[1]
    # In that order a class begins where those before it end; a sample's place in its class is its
    # distance from there.
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    held = torch.empty_like(labels, dtype=torch.bool)
    held[order] = (torch.arange(len(labels), device=labels.device) - first) % 5 == 4
    if not held.any():
        raise DataError(
            "no class has five training samples, so none can be held out to choose the penalty; "
            "add a validation part (a folder val beside train), or try few-shot probes (fewshot/)"
        )
    return (features[~held], labels[~held]), (features[held], labels[held])
