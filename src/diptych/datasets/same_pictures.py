"""Which samples show the same picture: for retrieval they are one, and no test shows a picture that
was learned."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from diptych.batch import Sample
from diptych.data import Source
from diptych.data.joined import Joined
from diptych.data.tables import TableSource
from diptych.errors import DataError
from diptych.threads import ahead, usable_cores

_AHEAD = 64
"""Pictures that threads are ahead."""


def digests(source: Source, count: int) -> list[str]:
    """A digest of the bytes of each of the first `count` pictures, equal for equal files whatever
    they are called. A picture that can't be read has one of its own."""
    known = dict[str, str]()

    def digest(index: int) -> str:
        try:
            image = source[index].image
            if isinstance(image, bytes):
                return hashlib.sha256(image).hexdigest()
            # A table may name a picture in many rows; it is read once.
            return known.get(image) or known.setdefault(image, _file_digest(image))
        except (DataError, OSError):
            return "\0".join(source.where(index))

    threads = min(8, usable_cores())
    return list(
        ahead(digest, range(count), threads, _AHEAD, lambda index: ", ".join(source.where(index)))
    )


def _file_digest(path: str) -> str:
    try:
        if os.path.isfile(path):  # a pipe would be waited for
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        pass
    return os.path.abspath(path)


def check_apart(test: Source, learned: Iterable[Source], place: str, limit: int) -> tuple[str, ...]:
    """Raises DataError where all test pictures are among those that were learned; remarks where
    some are."""
    shown = digests(test, _count(test, limit))
    seen = set[str]()
    for source in learned:
        seen.update(digests(source, _count(source, limit)))
    both = sum(picture in seen for picture in shown)
    if both == len(shown):
        raise DataError(
            f"all {both:,} test pictures of {place} are among its training pictures; "
            "a classifier is tested on pictures that it hasn't learned"
        )
    return (f"{both:,} of {len(shown):,} test pictures are training pictures too",) if both else ()


def _count(source: Source, limit: int) -> int:
    return min(limit, len(source)) if limit else len(source)


class Captioned(Source):
    """Pictures with all their captions: samples whose pictures are the same bytes are one, under
    the name of the first.

    A caption of several lines is several captions, as in CLIP_benchmark's shards, but in a table,
    where a cell is one. The first `limit` samples are taken; 0: all.
    """

    def __init__(self, source: Source, limit: int = 0):
        self._source = source
        self.bad_samples = source.bad_samples
        self._lines = not _is_table(source)
        pictures = dict[str, list[int]]()
        for index, picture in enumerate(digests(source, _count(source, limit))):
            pictures.setdefault(picture, []).append(index)
        self._rows = list(pictures.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        first, *others = (self._source[row] for row in self._rows[index])
        captions = list[str]()
        for sample in (first, *others):
            for caption in sample.captions:
                captions += self._split(caption)
        return replace(first, captions=tuple(captions), label=None)

    def where(self, index: int) -> tuple[str, str]:
        return self._source.where(self._rows[index][0])

    def files(self, index: int) -> tuple[str, ...]:
        found = dict[str, None]()
        for row in self._rows[index]:
            found |= dict.fromkeys(self._source.files(row))
        return tuple(found)

    def describe(self) -> str:
        samples = sum(map(len, self._rows))
        joined = f"{len(self):,} pictures of " if samples > len(self) else ""
        return f"{joined}{self._source.describe()}"

    @property
    def reading(self) -> Sequence[object]:
        """What the samples depend on beside the files."""
        return (self._lines, self._rows)

    def _split(self, caption: str) -> list[str]:
        if not self._lines:
            return [caption]
        return [line.strip() for line in caption.splitlines() if line.strip()]


def _is_table(source: Source) -> bool:
    parts = source.parts if isinstance(source, Joined) else (source,)
    return all(isinstance(part, TableSource) for part in parts)
