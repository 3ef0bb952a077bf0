"""What readers of layouts share."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from diptych.batch import Sample
from diptych.bounded import read_text
from diptych.data.source import Source
from diptych.errors import DataError


class Files(Source):
    """Samples that are known when the set is opened: their pictures are files, or came out of one
    in `place`."""

    def __init__(self, samples: Sequence[Sample], description: str, place: Path):
        self._samples, self._description, self._place = tuple(samples), description, place

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def where(self, index: int) -> tuple[str, str]:
        sample = self._samples[index]
        return sample.image if isinstance(sample.image, str) else str(self._place), sample.key

    def describe(self) -> str:
        return f"{len(self):,} {self._description} in {self._place}"


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises DataError."""
    try:
        return read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from None


def several(splits: Sequence[str]) -> Iterator[str]:
    """`all` as the splits that make it up."""
    for split in splits:
        yield from ("train", "val", "test") if split == "all" else (split,)
