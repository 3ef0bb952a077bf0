"""What a table is: rows by number, and which of its columns hold the picture, its captions and its
class."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.data.source import BadSample

IMAGE_COLUMNS = (
    *("image", "img", "filepath", "image_path", "file_name", "filename", "path"),
    *("image_name", "image_file", "img_path", "file", "photo", "picture"),
)
CAPTION_COLUMNS = ("captions", "sentence", "sentences", "comment", "description", "raw")
"""Asked where no column has one of the names that `--data.caption-key` lists."""
LABEL_COLUMNS = ("cls", "label", "fine_label")


class Rows(ABC):
    """Rows of a table by number, as column -> value."""

    columns: tuple[str, ...] = ()
    bad_samples: tuple[BadSample, ...] = ()
    """Lines that are no rows, already left out."""
    remarks: tuple[str, ...] = ()
    """What the user should know of how they are read."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Row `index`. Raises DataError for a bad one."""

    def value(self, index: int, column: str) -> Any:
        """One of its columns; None: it has none of that name."""
        return self[index].get(column)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names that are wanted, best first. A column answers to a name in any case."""

    images: tuple[str, ...]
    captions: tuple[str, ...]
    labels: tuple[str, ...] = LABEL_COLUMNS
    captions_needed: bool = True
    ids: str = ""
    """What samples are chosen by; empty: by nothing."""

    def image(self, columns: Sequence[str]) -> str:
        """The column of pictures; an empty string where there is none, here and below."""
        return _first((*self.images, *IMAGE_COLUMNS), columns)

    def label(self, columns: Sequence[str]) -> str:
        """The column of classes."""
        return _first(self.labels, columns)

    def id(self, columns: Sequence[str]) -> str:
        """The column of ids."""
        return _first((self.ids,) if self.ids else (), columns)

    def split(self, columns: Sequence[str]) -> str:
        """The column that says which part of the data a row belongs to."""
        return _first(("split",), columns)

    def caption_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns of captions, best first.

        >>> from diptych.data.rows import Columns
        >>> wanted = Columns(images=("jpg",), captions=("txt", "caption"))
        >>> wanted.caption_columns(["File", "Caption", "TXT"]), wanted.image(["File", "Caption"])
        (('TXT', 'Caption'), 'File')
        """
        named = [found for name in self.captions if (found := _first((name,), columns))]
        usual = _first(CAPTION_COLUMNS, columns)
        return tuple(dict.fromkeys(named)) or ((usual,) if usual else ())

    def fit(self, columns: Sequence[str]) -> bool:
        """Whether a table with these columns can be used."""
        described = self.caption_columns(columns) or self.label(columns)
        return bool(self.image(columns)) and bool(described or not self.captions_needed)


def _first(names: Sequence[str], columns: Sequence[str]) -> str:
    """The column of the first name that has one: spelled so, or but for upper and lower case."""
    for name in names:
        if name in columns:
            return name
        for column in columns:
            if column.strip().casefold() == name.casefold():
                return column
    return ""
