"""Bad samples of a run: counted, listed, and too many of them stop it."""

from collections.abc import Iterable

from diptych.data.source import BadSample
from diptych.errors import DataError


class BadSamples:
    """What a process has met so far. `count` of `read` samples were bad; `listed` has each of
    them once, after those that were `found` when the source was opened.

    >>> from diptych.data import BadSample, BadSamples
    >>> bad = BadSamples()
    >>> bad.add(read=100, bad=[BadSample("a.tar", "007", "no picture")])
    >>> bad.count, bad.read, bad.listed[0].key
    (1, 100, '007')
    """

    def __init__(self, found: Iterable[BadSample] = ()):
        self.read = 0
        self.count = 0
        self._listed = dict.fromkeys(found)

    @property
    def listed(self) -> list[BadSample]:
        """Every bad sample, in the order of meeting, after those found when the source was
        opened."""
        return list(self._listed)

    def add(self, read: int, bad: Iterable[BadSample]) -> None:
        """Count a batch."""
        self.read += read
        for sample in bad:
            self._first = sample if self.count == 0 else self._first
            self.count += 1
            self._listed.setdefault(sample)

    def stop_if_above(self, share: float, after: int) -> None:
        """Raise DataError when more than `share` of the samples is bad, `after` so many have
        been read."""
        if self.read >= after and self.count > share * self.read:
            file, key, reason = self._first
            raise DataError(
                f"{self.count:,} of {self.read:,} samples read are bad "
                f"({self.count / self.read:.1%}), more than data.max_bad_share {share:g}; "
                f"the first: {file}, {key}: {reason}"
            )
