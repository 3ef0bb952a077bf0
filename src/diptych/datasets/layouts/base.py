"""What every reader of a layout is asked, and what it answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.batch import Sample
from diptych.data.source import Source, Words
from diptych.datasets.entry import EvaluationSet
from diptych.errors import DataError

_NAMES = {
    "train": ("train", "trainval", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One split of one set, below one folder."""

    entry: EvaluationSet
    split: str
    root: Path
    cache: Path
    ignore_difficult: bool = False

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of the set that exist, the mirrors' first."""
        return tuple(path for name in self.entry.folders if (path := self.root / name).is_dir())

    def split_names(self, split: str = "") -> tuple[str, ...]:
        """What the split may be called. A validation split is the test where the set knows no
        other."""
        split = split or self.split
        names = _NAMES.get(split, (split,))
        return (
            (*names, *_NAMES["val"]) if split == "test" and "val" not in self.entry.sizes else names
        )

    @property
    def words(self) -> Words:
        """For sources of `diptych.data`: labels are numbers, captions may be missing."""
        return Words(
            keys=("txt", "caption", "captions", "sentences"),
            class_names=(),
            templates=(),
            needed=False,
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reader found: samples whose labels are the data's own."""

    layout: str
    place: Path
    source: Source
    labels: tuple[str, ...] = ()
    """What the data calls its classes, by number. Empty: the numbers are the set's own."""
    templates: tuple[str, ...] = ()
    """Those that lie beside the data."""


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
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}") from None


def several(splits: Sequence[str]) -> Iterator[str]:
    """`all` as the splits that make it up."""
    for split in splits:
        yield from ("train", "val", "test") if split == "all" else (split,)
