"""How two ways of doing the same thing are timed: in turn, in a random order, medians of at least
five rounds."""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. `ratio` above 1 means that Diptych is ahead."""

    name: str
    unit: str
    ours: float
    theirs: float
    higher_is_better: bool = False
    check: str = ""
    """What shows that both did the same work."""

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.higher_is_better else self.theirs / self.ours


def seconds(*works: Callable[[], object], rounds: int = 5) -> list[float]:
    """Median wall seconds of each, called in turn after one call of each that isn't counted."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for i in random.sample(range(len(works)), len(works)):
            start = time.perf_counter()
            works[i]()
            taken[i].append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def measured_apart(ours: str, theirs: str, rounds: int = 5) -> tuple[float, float]:
    """Medians of the number that each piece of code prints last, each call in a process of its
    own."""
    [mine], [other] = numbers_apart(ours, theirs, rounds=rounds)
    return mine, other


def numbers_apart(*codes: str, rounds: int = 5) -> list[list[float]]:
    """The same of any number of codes; each prints a number, or a list of numbers in JSON."""
    found: dict[str, list[list[float]]] = {code: [] for code in codes}
    for _ in range(rounds):
        for code in random.sample(codes, len(codes)):
            done = subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True
            )
            printed = json.loads(done.stdout.splitlines()[-1])
            found[code].append(printed if isinstance(printed, list) else [printed])
    medians: list[list[float]] = []
    for code in codes:
        medians.append([statistics.median(times) for times in zip(*found[code], strict=True)])
    return medians
