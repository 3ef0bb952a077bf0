"""Which sample stands at which place of a run: a pure function of the seed and the place.

Nothing is shuffled in memory and nothing is kept: place -> sample is arithmetic. So the order is
the same on any number of loader workers and processes, and a run that continues needs to know only
how many samples of each source it has seen: a batch of another size takes the next ones.

Of a mixture, each source has its share of every batch (`Deal`), and an order of its own.

The arithmetic is a keyed bijection, built as small block ciphers are: a hash that mixes bits
(`_mix`), made invertible by a Feistel network (`_feistel`), and cut to the wanted size by cycle
walking (`permute`). A bijection, because in an epoch each sample is to come exactly once; keyed, so
that each epoch has an order of its own.

Where samples are read one after the other several times faster than at random (network file
systems), runs of consecutive samples are permuted in place of samples (`Order.consecutive`), and
dealt out some thousand at a time, a few samples of each in turn.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from diptych.data.dealing import Deal

_ROUNDS = 8
"""Three rounds of a random function already look random (Luby and Rackoff 1988); ours is a quick
hash on small halves, so there are more."""
_LANES = 1024
"""Runs that are dealt at the same time, at least, where the source has so many."""
_PIECE = 16
"""Samples of a run that stand side by side, and so are read by one process in one go."""


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output
    bit."""
    # A multiplication carries low bits upwards alone; the shifts bring high bits down again.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _feistel(places: np.ndarray, side: np.uint64, keys: np.ndarray) -> np.ndarray:
    """A bijection of 0..side**2-1: each round (left, right) -> (right, left + hash(right) mod side)
    can be undone, whatever the hash: its right half is the old right, and from that follows what
    was added to the old left."""
    # Halves are digits to the base `side`, not bits: so the network's size is any square number,
    # and not just a power of four, of which up to three quarters would lie outside.
    left, right = np.divmod(places, side)
    for key in keys:
        left, right = right, (left + _mix(right ^ key) % side) % side
    return left * side + right


def permute(
    places: Int64[np.ndarray, " n"], size: int, key: tuple[int, ...]
) -> Int64[np.ndarray, " n"]:
    """Where a random permutation of 0..size-1, chosen by `key`, sends each of `places`.

    A Feistel network over the next square number, with cycle walking: what lands outside 0..size-1
    goes through the network again until it comes back inside (Black and Rogaway 2002, "Ciphers with
    arbitrary finite domains"). Constant memory; less than a microsecond per place.

    >>> import numpy as np
    >>> from diptych.data.order import permute
    >>> sorted(permute(np.arange(10), 10, key=(0,)).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    # The smallest side whose square holds all places: (side - 1)^2 < size <= side^2, so few of them
    # (under 2 / side) lie outside, and hardly one has to walk twice.
    side = np.uint64(math.isqrt(size - 1) + 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    out = _feistel(places.astype(np.uint64), side, keys)
    # A walk ends: it follows a cycle of a permutation, and the cycle holds the place inside that it
    # came from. Two walks never meet, as each place has only one predecessor: so what remains is a
    # bijection of 0..size-1.
    while (outside := out >= size).any():
        out[outside] = _feistel(out[outside], side, keys)
    return out.astype(np.int64)


def _dealt(
    places: np.ndarray, lanes: np.ndarray | int, length: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """Which of `lanes` runs of `length` samples stands at each place of their window, and which of
    its samples: every run gives a piece in turn, then each its next one; the last pieces may be
    shorter."""
    piece = np.minimum(length, _PIECE)
    whole = length // piece
    turn = np.minimum(places // (lanes * piece), whole)
    width = np.where(turn < whole, piece, np.maximum(length - whole * piece, 1))
    lane, sample = np.divmod(places - turn * lanes * piece, width)
    return lane, turn * piece + sample


def _in_runs(place: np.ndarray, size: int, length: int, key: tuple[int, ...]) -> np.ndarray:
    """Where an epoch's order sends its places: to samples of runs, which are permuted. With runs of
    one sample it is `permute`."""
    runs = size // length
    # The windows have `lanes` runs, between _LANES and twice as many; the first `wider` one more.
    windows = max(1, runs // _LANES)
    lanes, wider = divmod(runs, windows)
    first_narrow = wider * (lanes + 1)
    # What is left over, less than a run, ends the epoch.
    position, body = place.copy(), place < runs * length
    inside = place[body]
    narrow = inside >= first_narrow * length
    each = lanes + 1 - narrow
    window, inside = np.divmod(inside - narrow * first_narrow * length, each * length)
    lane, sample = _dealt(inside, each, length)
    number = narrow * first_narrow + window * each + lane
    position[body] = permute(number, runs, key) * length + sample
    # Runs begin elsewhere in each epoch, so that other samples are neighbours, or left over.
    shift = int(np.random.SeedSequence((*key, length)).generate_state(1, np.uint64)[0]) % length
    return (position + shift) % size


@dataclass(frozen=True)
class Order:
    """The run's samples, step by step.

    Each source is read in epochs: a permutation of it per (seed, source, epoch), one after the
    other without a gap. With several sources, each has its share of every batch, and so of what a
    process holds of it (`Deal`); a source that comes round early starts its next epoch alone.

    With `consecutive` above 1 it is runs of so many consecutive samples that are permuted. At least
    1,024 of them are dealt at the same time (all, where there are fewer), 16 samples of each in
    turn: so a batch of up to 16,384 has samples of its size / 16 different runs, two samples of one
    run are met 16 places or 16,384 to 32,768 apart, and whoever reads a part of a batch reads
    forward.

    >>> from diptych.data.order import Order
    >>> order = Order(sizes=(5,), weights=(1.0,), batch_size=5, seed=0)
    >>> sorted(order.batch(step=1).tolist())  # epoch 1 of source 0 holds each sample once
    [[0, 1, 0], [0, 1, 1], [0, 1, 2], [0, 1, 3], [0, 1, 4]]
    """

    sizes: tuple[int, ...]
    """Samples in each source."""
    weights: tuple[float, ...]
    """Relative share of each source."""
    batch_size: int
    seed: int
    resample: bool = False
    """Draw with replacement: no epochs, each place is one of its own."""
    consecutive: int = 1
    """Samples of a run, which are read one after the other."""
    first_step: int = 0
    """The step from which batches have this size and these shares."""
    first_taken: tuple[int, ...] = ()
    """Samples that each source gave in the steps before; empty: as if they had been alike."""

    def batch(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "rows 3"]:
        """(source, epoch, index in the source) of the step's batch over all processes, or of some
        rows of it."""
        source, before = self._deal.rows(step)
        source = source[rows]
        nth = self.taken(step)[source] + before[rows]
        if self.resample:
            return np.stack([source, nth, self._draw(source, nth)], axis=1)
        # The nth sample that a source gives is number nth mod size of epoch nth // size. A batch
        # may reach over an epoch's end: each (source, epoch) in it has its own permutation.
        epoch, place = np.divmod(nth, np.array(self.sizes)[source])
        index = np.empty_like(place)
        for which, turn in np.unique(np.stack([source, epoch]), axis=1).T.tolist():
            rows_of = (source == which) & (epoch == turn)
            size, key = self.sizes[which], self._key(which, turn)
            index[rows_of] = _in_runs(place[rows_of], size, min(self.consecutive, size), key)
        return np.stack([source, epoch, index], axis=1)

    def taken(self, step: int) -> Int64[np.ndarray, " sources"]:
        """How many samples each source gave in all steps before `step`."""
        given = self._deal.given(step)
        if self.first_taken:
            given += np.array(self.first_taken) - self._deal.given(self.first_step)
        return given

    @property
    def _deal(self) -> Deal:
        return Deal(self.weights, self.batch_size)

    def _draw(self, source: np.ndarray, nth: np.ndarray) -> np.ndarray:
        """A hash of the place's run as where in the place's source it begins; of the place itself,
        where a run is one sample. The remainder prefers low indices by a share of size / 2^64,
        which no run is long enough to notice."""
        keys = [
            np.random.SeedSequence(self._key(which)).generate_state(1, np.uint64)
            for which in range(len(self.sizes))
        ]
        sizes = np.array(self.sizes)[source]
        length = np.minimum(self.consecutive, sizes)
        window, inside = np.divmod(nth, _LANES * length)
        lane, sample = _dealt(inside, _LANES, length)
        run = window * _LANES + lane
        # The key goes in between two hashes: before the first, all sources would draw from one and
        # the same sequence, only entered at another place.
        hashed = _mix(_mix(run.astype(np.uint64)) ^ np.concatenate(keys)[source])
        return ((hashed % sizes.astype(np.uint64)).astype(np.int64) + sample) % sizes

    def _key(self, *parts: int) -> tuple[int, ...]:
        return (self.seed % (1 << 64), *parts)
