"""How much of ImageNet's accuracy is left on other pictures of its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RobustnessRow:
    """One model, or one model's probe; shares in [0, 1]."""

    name: str
    reference: float
    shifts: dict[str, float | None]
    """accuracy on each shifted set; None: it was not measured"""
    mean: float | None
    """over the reference and all shifts; None if one of them was not measured: such means can't be
    compared"""
    drop: float | None
    """reference - mean (EVA-CLIP's Δ, Sun et al. 2023, arXiv:2303.15389); None with the mean"""


def robustness(
    results: Mapping[str, Mapping[str, float]], reference: str, shifts: Sequence[str]
) -> list[RobustnessRow]:
    """From name -> set -> accuracy, the rows of the table, the smallest drop first and incomplete
    ones last. Zero-shot and probe are two names. Names without the reference are left out.

    >>> from diptych.evaluation import robustness
    >>> accuracies = {"b-32": {"in": 0.6, "v2": 0.5, "r": 0.4}}
    >>> accuracies["l-14"] = {"in": 0.7, "v2": 0.7, "r": 0.7}
    >>> [(row.name, round(row.drop, 3)) for row in robustness(accuracies, "in", ("v2", "r"))]
    [('l-14', 0.0), ('b-32', 0.1)]
    """
    rows = [
        _row(name, found, reference, shifts)
        for name, found in results.items()
        if reference in found
    ]
    return sorted(rows, key=lambda row: (row.drop is None, row.drop or 0.0))


def _row(
    name: str, found: Mapping[str, float], reference: str, shifts: Sequence[str]
) -> RobustnessRow:
    known = [found[shift] for shift in (reference, *shifts) if shift in found]
    mean = sum(known) / len(known) if len(known) == len(shifts) + 1 else None
    return RobustnessRow(
        name=name,
        reference=found[reference],
        shifts={shift: found.get(shift) for shift in shifts},
        mean=mean,
        drop=None if mean is None else found[reference] - mean,
    )
