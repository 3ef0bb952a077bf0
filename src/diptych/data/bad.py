"""Bad samples of a run: counted, listed, and too many of them stop it."""

from collections.abc import Iterable

from diptych.data.source import BadSample
from diptych.errors import DataError

_SETTLED = 1000
"""Samples of a long source after which the share of bad ones says something."""
_FEW = 100


def too_many(bad: int, read: int, share: float) -> bool:
    """Whether more than `share` of the samples are bad. Fewer than 100 count as 100: one bad sample
    in a hundred stops no smaller source.

    >>> from diptych.data.bad import too_many
    >>> too_many(1, 59, 0.01), too_many(2, 59, 0.01), too_many(20, 2000, 0.01)
    (False, True, False)
    """
    return bad > share * max(read, _FEW)


class BadSamples:
    """What a process has met so far: `count` of `read` samples were bad. `listed` has each bad
    sample once, after those that were `found` when the source was opened. A source has `size`
    samples, 0: more than anyone reads.

    >>> from diptych.data import BadSample, BadSamples
    >>> bad = BadSamples()
    >>> bad.add(read=100, bad=[BadSample("a.tar", "007", "no picture")])
    >>> bad.count, bad.read, bad.listed[0].key
    (1, 100, '007')
    """

    def __init__(self, found: Iterable[BadSample] = (), size: int = 0):
        self.read = 0
        self.count = 0
        self._found, self._size = dict.fromkeys(found), size
        self._met = dict[BadSample, None]()

    @property
    def listed(self) -> list[BadSample]:
        """Every bad sample, in the order of meeting, after those found when the source was
        opened."""
        return list(self._found | self._met)

    def add(self, read: int, bad: Iterable[BadSample]) -> None:
        """Count a batch."""
        self.read += read
        for sample in bad:
            self.count += 1
            self._met.setdefault(sample)

    def stop_if_above(self, share: float) -> None:
        """Raise DataError when more than `share` of the samples is bad (`too_many`): of those read,
        and of a source's first 1000, or all, while fewer are. A sample that is read again, in
        another epoch, counts once."""
        read = min(self.read, self._size or self.read)
        if too_many(len(self._met), max(read, min(self._size or _SETTLED, _SETTLED)), share):
            self.stop(len(self._met), read, f"more than --data.max-bad-share {share:g}")

    def stop(self, count: int, read: int, why: str) -> None:
        """Raise DataError, with the first bad sample."""
        file, key, reason = next(iter(self._met))
        raise DataError(
            f"{count:,} of {read:,} samples read are bad ({count / read:.1%}), {why}; "
            f"the first: {file}, {key}: {reason}"
        )
