"""The linear probe with a few pictures to a class, and how much it depends on which."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.errors import DataError
from diptych.evaluation.coordinates import Coordinates
from diptych.evaluation.linear import fit_probe

SHOTS = (1, 2, 4, 8, 16)
"""Training samples of each class."""
_HELD = 4
"""Samples of each class, at most, that choose the penalty."""


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Accuracies, in [0, 1], of probes that learned from `shots` samples a class."""

    shots: int
    accuracies: tuple[float, ...]
    """one for each draw"""

    @property
    def mean(self) -> float:
        """Over the draws."""
        return statistics.fmean(self.accuracies)

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of the mean over draws, by Student's t; not a number for a single
        draw."""
        from scipy.stats import t

        draws = len(self.accuracies)
        if draws == 1:
            return float("nan")
        return float(t.ppf(0.975, draws - 1)) * statistics.stdev(self.accuracies) / draws**0.5


def few_shot(
    train: Float[Tensor, "n width"],
    train_labels: Int[Tensor, " n"],
    test: Float[Tensor, "m width"],
    test_labels: Int[Tensor, " m"],
    *,
    shots: Sequence[int] = SHOTS,
    draws: int = 5,
    seed: int = 0,
    names: Sequence[str] = (),
    among: Sequence[int] = (),
) -> list[FewShot]:
    """Probes from k samples a class. The penalty is chosen on min(k, 4) others of each class (as in
    CoOp, Zhou et al. 2022, arXiv:2109.01134), which the classifier doesn't learn from. A draw with
    more shots contains those with fewer. `among`: the classes that are tested, where they are some
    of those that are trained; the test's labels are places in it.

    Raises DataError if a class has too few samples, by its name if `names` are those of the labels.

    >>> import torch
    >>> from diptych.evaluation import few_shot
    >>> vectors, labels = torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8)
    >>> probes = few_shot(vectors, labels, vectors, labels, shots=(1, 4), draws=2)
    >>> [(probe.shots, probe.mean) for probe in probes]
    [(1, 1.0), (4, 1.0)]
    """
    train_labels = train_labels.to(train.device)
    present, counts = train_labels.unique(return_counts=True)
    most = max(shots) + min(max(shots), _HELD)
    if int(counts.min()) < most:
        label, fewest = int(present[counts.argmin()]), int(counts.min())
        raise DataError(
            f"class {names[label] if names else label} has {fewest} training samples, but "
            f"{max(shots)} shots and those that choose the penalty need {most}; ask for fewer "
            "shots (--shots)"
        )
    coordinates = Coordinates.of(train)
    found: dict[int, list[float]] = {count: [] for count in shots}
    for draw in range(draws):
        places = _places(train_labels, seed + draw)
        for count in shots:
            # Validation samples stand behind the longest draw: they are the same for all shots,
            # and none is ever trained on.
            kept = places < count
            held = (places >= max(shots)) & (places < max(shots) + min(count, _HELD))
            probe = fit_probe(
                train[kept],
                train_labels[kept],
                validation=(train[held], train_labels[held]),
                refit=False,
                coordinates=coordinates,
            )
            probe = probe.among(among) if among else probe
            found[count].append(probe.accuracy(test, test_labels))
    return [
        FewShot(shots=count, accuracies=tuple(accuracies)) for count, accuracies in found.items()
    ]


def shots_that_fit(labels: Int[Tensor, " n"]) -> tuple[int, ...]:
    """Those of `SHOTS` for which every class has enough samples, with those that choose the
    penalty. Raises DataError where there are none.

    >>> import torch
    >>> from diptych.evaluation.few_shot import shots_that_fit
    >>> shots_that_fit(torch.arange(3).repeat(4))
    (1, 2)
    """
    present, counts = labels.unique(return_counts=True)
    fewest = int(counts.min())
    found = tuple(count for count in SHOTS if count + min(count, _HELD) <= fewest)
    if not found:
        raise DataError(
            f"class {int(present[counts.argmin()])} has a single training sample; one shot needs "
            "two of each class, one to learn from and one that chooses the penalty"
        )
    return found


def _places(labels: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
    """The place of each sample in a shuffled queue of its class; the same on every device."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(
        labels.device
    )
    order = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.unique(return_counts=True)[1]
    # In that order a class begins where those before it end.
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    places = torch.empty_like(labels)
    places[order] = torch.arange(len(labels), device=labels.device) - first
    return places
