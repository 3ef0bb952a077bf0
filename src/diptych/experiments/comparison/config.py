"""What a comparison of runs can be asked for."""

from dataclasses import dataclass
from typing import Literal

from diptych.config.ranges import Ranged, Some


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Ranged):
    """How runs are compared."""

    flags = "--"

    seeds: Some = 3
    """Runs of each variant, from different random numbers; the intervals come from them."""
    equal: Literal["samples", "flops"] = "samples"
    """What everyone gets alike. flops: as many steps as the first variant's floating-point
    operations pay for, counted over some real steps; those of the runs whose weights a variant
    starts from are counted in, those of teachers aren't."""
    differ: tuple[str, ...] = ()
    """Settings that everyone should share and that are to differ all the same: they are what is
    compared. Such as data.share, batch_size, model."""
    jobs: Some = 1
    """Runs at a time, each with its share of the cores."""
    points: Some = 10
    """Evaluations on the way: the points of the curves."""
    out: str = "benchmark"
    """Folder of everything that the benchmark writes."""
