"""Which source each row of a mixture's batches comes from: every batch holds the weights' shares.

A batch of B rows is a comb of B teeth, one apart, laid over a line of length B that is cut into the
sources' lengths, B times their shares. Wherever it is laid, a length of 19.2 meets 19 or 20 teeth,
and never another number (systematic sampling; Madow and Madow 1944, "On the theory of systematic
sampling"). Each step lays it the golden ratio further on, so that 19 and 20 come as evenly as they
can (Weyl 1916): over the steps each source has its share to within a few samples. How many it had
before a step is a sum of rounded multiples, which Euclid's algorithm finds without the steps.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

_TOOTH = 1 << 32
"""Places between two teeth at which the comb may be laid: shares are rounded to 1 / (2^32 B)."""
_SHIFT = 0x9E3779B9
"""The golden ratio of them; odd, so that each place has its turn."""


@dataclass(frozen=True)
class Deal:
    """Rows to sources, step by step, without memory: of the shares, the batch and the step alone.

    Of each step's batch a source has its share of rows, rounded down or up; so it has of every
    half, quarter and so on of it, and nearly of any other part: what processes hold of a batch is
    mixed alike.

    >>> from diptych.data.dealing import Deal
    >>> deal = Deal(weights=(3.0, 1.0), batch_size=8)
    >>> source, before = deal.rows(step=0)
    >>> source.tolist()  # 6 and 2; 3 and 1 in each half
    [0, 0, 0, 1, 0, 0, 0, 1]
    >>> before.tolist()  # of the row's source, in this batch
    [0, 1, 2, 0, 3, 4, 5, 1]
    >>> deal.given(step=100).tolist()
    [600, 200]
    """

    weights: tuple[float, ...]
    """Relative share of each source."""
    batch_size: int

    @property
    def ends(self) -> list[int]:
        """Where the sources' parts of the line begin and end."""
        sums = [0.0, *itertools.accumulate(self.weights)]
        return [round(_TOOTH * self.batch_size * (end / sums[-1])) for end in sums]

    def rows(self, step: int) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
        """The source of each of the batch's rows, and how many rows before it are of that
        source."""
        return _rows(self, step)

    def given(self, step: int) -> Int64[np.ndarray, " sources"]:
        """How many rows each source had in all batches before `step`."""
        # Before a step, the teeth on the line's part up to `end` are so many, but for a number that
        # is the same for all ends.
        met = [_floor_sum(step, _TOOTH, _SHIFT, _TOOTH // 2 + end) for end in self.ends]
        return np.array([high - low for low, high in itertools.pairwise(met)])


@functools.lru_cache(maxsize=4)
def _rows(deal: Deal, step: int) -> tuple[np.ndarray, np.ndarray]:
    laid = (_TOOTH // 2 + _SHIFT * step) % _TOOTH
    ends = [(end + laid) // _TOOTH for end in deal.ends[1:]]
    # Where an even share leaves one row over, it is another part of the batch that has it next.
    teeth = (_spread(deal.batch_size) + step) % deal.batch_size
    source = np.searchsorted(np.array(ends), teeth, side="right")
    before = np.empty_like(source)
    for which in range(len(deal.weights)):
        own = source == which
        before[own] = np.arange(np.count_nonzero(own))
    return source, before


@functools.lru_cache(maxsize=4)
def _spread(count: int) -> np.ndarray:
    """0..count-1, so arranged that the first half are the even numbers, the first quarter those
    that 4 divides, and so on: digits in reverse (van der Corput 1935), to the bases of the prime
    factors. Every second tooth of a comb is a comb again."""
    found = np.zeros(1, np.int64)
    for prime in reversed(_primes(count)):
        found = np.add.outer(np.arange(prime), prime * found).ravel()
    return found


def _primes(count: int) -> list[int]:
    """The prime factors, rising."""
    found, prime = list[int](), 2
    while prime * prime <= count:
        while count % prime == 0:
            found.append(prime)
            count //= prime
        prime += 1
    return [*found, count] if count > 1 else found


def _floor_sum(count: int, divisor: int, step: int, start: int) -> int:
    """The sum of (start + step * n) // divisor for n below `count`, as fast as Euclid's
    algorithm (Graham, Knuth, Patashnik, "Concrete mathematics", 3.5)."""
    total = 0
    while count:
        # Whole divisors first: of each number in the start, and of each multiple of the step.
        total += count * (start // divisor) + count * (count - 1) // 2 * (step // divisor)
        step, start = step % divisor, start % divisor
        # What is left are the points of a grid below a line: counted by its rows in place of its
        # columns, they are a sum of the same kind with smaller numbers.
        count, start = divmod(start + step * count, divisor)
        step, divisor = divisor, step
    return total
