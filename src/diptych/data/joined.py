"""Sources made of sources: several end to end, or some samples of one."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from diptych.batch import Sample
from diptych.data.source import Source


class Joined(Source):
    """Several sources end to end. With weights each is a stream of its own; without, the whole is
    shuffled as one. `names`: what the user calls them. Classes of the same name are one, whatever
    their numbers in the parts."""

    def __init__(
        self,
        parts: Sequence[Source],
        weights: tuple[float, ...] = (),
        names: tuple[str, ...] = (),
    ):
        self.parts = tuple(parts)
        self.class_names, self._labels = _joined_classes([part.class_names for part in parts])
        self.bad_samples = tuple(itertools.chain.from_iterable(part.bad_samples for part in parts))
        self.remarks = tuple(itertools.chain.from_iterable(part.remarks for part in parts))
        kept = [part.kept for part in parts]
        self.kept = "::".join(kept) if any(kept) else ""
        self._weights, self._names = weights, names
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def _locate(self, index: int) -> tuple[int, int]:
        """The number of a sample's part, and its own in it."""
        which = bisect.bisect_right(self._ends, index)
        return which, index - (self._ends[which - 1] if which else 0)

    def __getitem__(self, index: int) -> Sample:
        part, index = self._locate(index)
        labels, sample = self._labels[part], self.parts[part][index]
        if sample.label is None or not labels:
            return sample
        return replace(sample, label=labels[sample.label])

    def where(self, index: int) -> tuple[str, str]:
        part, index = self._locate(index)
        return self.parts[part].where(index)

    def files(self, index: int) -> tuple[str, ...]:
        part, index = self._locate(index)
        return self.parts[part].files(index)

    @property
    def whole(self) -> int:
        return sum(part.whole for part in self.parts)

    def places(self, indices: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        found, before = np.empty_like(indices), 0
        which = np.searchsorted(self._ends, indices, side="right")
        for number, part in enumerate(self.parts):
            own = which == number
            found[own] = part.places(indices[own] - self._ends[number] + len(part)) + before
            before += part.whole
        return found

    def id_of(self, index: int, field: str) -> str:
        part, index = self._locate(index)
        return self.parts[part].id_of(index, field)

    def describe(self) -> str:
        shares = [f" (weight {weight:g})" for weight in self._weights] or [""] * len(self.parts)
        return "; ".join(
            part.describe() + share for part, share in zip(self.parts, shares, strict=True)
        )

    @property
    def streams(self) -> tuple[Source, ...]:
        return self.parts if self._weights else (self,)

    @property
    def weights(self) -> tuple[float, ...]:
        return self._weights or (1.0,)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names if self._weights and self._names else super().names


def _joined_classes(
    names: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """The names of all classes, beginning with the longest list, and each part's numbers among
    them; empty: they are the same numbers, or the part has no names."""
    longest = max(names, key=len)
    every, places = list(longest), dict[str, int]()
    for place, name in enumerate(longest):
        places.setdefault(name, place)
    labels = list[tuple[int, ...]]()
    for own in names:
        for name in own:
            if name not in places:
                places[name] = len(every)
                every.append(name)
        same = own == longest[: len(own)]
        labels.append(() if same else tuple(places[name] for name in own))
    return tuple(every), labels


class Chosen(Source):
    """Some samples of a source. `kept`: the digest of the ids, where these chose them."""

    def __init__(
        self, source: Source, rows: Sequence[int] | Int64[np.ndarray, " n"], kept: str = ""
    ):
        self._source, self._rows = source, np.asarray(rows, np.int64)
        self.class_names, self.bad_samples = source.class_names, source.bad_samples
        self.kept = kept or source.kept

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self._source[int(self._rows[index])]

    def where(self, index: int) -> tuple[str, str]:
        return self._source.where(int(self._rows[index]))

    def files(self, index: int) -> tuple[str, ...]:
        return self._source.files(int(self._rows[index]))

    @property
    def whole(self) -> int:
        return self._source.whole

    def places(self, indices: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return self._source.places(self._rows[indices])

    def id_of(self, index: int, field: str) -> str:
        return self._source.id_of(int(self._rows[index]), field)

    def describe(self) -> str:
        return f"{len(self):,} of {self._source.describe()}"
