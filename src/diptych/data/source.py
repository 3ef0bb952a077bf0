"""What every source offers, and the small things that all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int64

from diptych.batch import Sample
from diptych.bounded import read_text
from diptych.config import DataConfig
from diptych.data.ids import KEY, Ids, text_of, values_of
from diptych.data.wordnet import place_of_id, refuse_ids, spoken_names
from diptych.errors import ConfigError, DataError, beside, reason

_CLASSES = 1 << 31
"""Classes where nothing says how many there are."""
_SHOWN = 60
"""Letters of a class in a message."""


class BadSample(NamedTuple):
    """A sample, or a part of a file, that can't be used: where it is and why.

    >>> from diptych.data import BadSample
    >>> BadSample(file="a.tar", key="007", reason="no caption").reason
    'no caption'
    """

    file: str
    key: str
    reason: str


class Source(ABC):
    """Pairs by number, in any order. Reading a bad sample raises `DataError`; that never harms the
    others.

    A source of one's own gives `len`, a sample by number, where that sample lies, and a line for
    people.

    >>> from diptych.batch import Sample
    >>> from diptych.data import Source
    >>> class Greys(Source):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         return Sample(key=str(index), image=f"grey-{index}.png", captions=("grey",))
    ...     def where(self, index):
    ...         return "greys", str(index)
    ...     def describe(self):
    ...         return "3 grey pictures"
    >>> Greys()[2].key, Greys().files(2)
    ('2', ('greys',))
    """

    class_names: tuple[str, ...] = ()
    """Names in class order, where the samples have labels."""
    bad_samples: tuple[BadSample, ...] = ()
    """What opening found bad (a truncated shard, rows that don't parse), already left out."""
    remarks: tuple[str, ...] = ()
    """What the user should know of how the samples are read; `open_source` warns of it."""
    kept: str = ""
    """A digest of the ids by which its samples were chosen (`--data.keep`); empty: by none."""

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, 0 <= index < len. Raises DataError (or OSError) when it can't be used."""

    @abstractmethod
    def where(self, index: int) -> tuple[str, str]:
        """(file, key) of a sample, without reading it."""

    def files(self, index: int) -> tuple[str, ...]:
        """What a sample depends on: it is another one when one of these changes."""
        return (self.where(index)[0],)

    @property
    def whole(self) -> int:
        """How many samples there are where these were chosen from."""
        return len(self)

    def places(self, indices: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Which of the whole these samples are: what is known of each, whatever part is chosen,
        goes by that."""
        return indices

    def id_of(self, index: int, field: str) -> str:
        """What sample `index` is called: its key, where `field` is `__key__`, or what its `meta`
        has in that field. Raises DataError (or OSError) where it has none."""
        if field == KEY:
            return self.where(index)[1]
        if text := text_of((self[index].meta or {}).get(field)):
            return text
        raise DataError(f"it has no field {field!r}")

    def ids(self, field: str) -> Ids:
        """`id_of` of all samples."""
        return Ids.of(values_of(map(partial(self._id_or_none, field), range(len(self)))))

    def _id_or_none(self, field: str, index: int) -> str:
        try:
            return self.id_of(index, field)
        except (DataError, OSError):
            return ""

    @abstractmethod
    def describe(self) -> str:
        """One line for people."""

    @property
    def streams(self) -> tuple["Source", ...]:
        """The sources that are shuffled and weighted one by one; this one alone unless it is a
        mixture."""
        return (self,)

    @property
    def weights(self) -> tuple[float, ...]:
        """Relative share of each stream."""
        return (1.0,)

    @property
    def names(self) -> tuple[str, ...]:
        """What the user calls each stream."""
        return tuple(stream.describe() for stream in self.streams)


@dataclass(frozen=True)
class Captioner:
    """How a source's samples come by their captions: from the first of the `keys` that holds one,
    or from their class name put into `templates`."""

    keys: tuple[str, ...]
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    needed: bool
    """Whether a sample without a caption counts as bad."""
    alone: bool = False
    """Whether nothing but pictures is looked for: neither captions nor classes."""
    flags: str = "--data."
    """What the flags of these settings begin with, for messages."""

    def captions(self, found: Mapping[str, object], label: int | None) -> tuple[str, ...]:
        """The alternatives: of the first key that `found` has, or else of the class. Raises
        DataError if needed."""
        for key in self.keys:
            if key in found and (texts := tuple(filter(None, map(str.strip, _texts(found[key]))))):
                return texts
        if label is not None and self.class_names:
            return tuple(
                template.replace("{}", self.class_names[label]) for template in self.templates
            )
        if self.needed:
            hint = (
                f"; its class needs a file of names in {self.flags}class-names"
                if label is not None
                else ""
            )
            raise DataError(
                f"no caption: none of {', '.join(self.keys)} ({self.flags}caption-key) holds "
                f"one{hint}"
            )
        return ()

    def label(self, value: object) -> int:
        """A class index, from an index or a class name."""
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        text = text.strip()
        if text in self.class_names:
            return self.class_names.index(text)
        if (place := place_of_id(text, self.class_names)) is not None:
            return place
        try:
            label = int(text)
            if label >= _CLASSES:
                raise ValueError
        except ValueError:
            raise DataError(
                f"class {text[:_SHOWN]!r} is neither a number nor one of {self.flags}class-names"
            ) from None
        if label < 0:  # as some write of what has no label
            raise DataError(f"class {label} is none: classes are counted from 0")
        if self.class_names and label >= len(self.class_names):
            raise DataError(
                f"class {text[:_SHOWN]} lies outside the {len(self.class_names)} names of "
                f"{self.flags}class-names"
            )
        return label


def _texts(value: object) -> Iterable[str]:
    """The texts of a caption field: one, or a list of alternatives; a number is its digits, and
    anything else is nothing."""
    several = cast(Sequence[object], value) if isinstance(value, list | tuple) else (value,)
    for text in several:
        if isinstance(text, str):
            yield text
        elif isinstance(text, int | float) and not isinstance(text, bool) and abs(text) < 1e300:
            yield str(text)  # nothing is smaller than NaN, pandas' word for nothing


def captioner_of(
    config: DataConfig, *, needed: bool, class_names: tuple[str, ...] = (), flags: str = "--data."
) -> Captioner:
    """The `Captioner` that a configuration asks for; `class_names` where the source knows them and
    the user gave none."""
    for template in config.templates:
        if "{}" not in template:
            raise ConfigError(f"{flags}templates: {template!r} has no {{}} for the class name")
    names = read_class_names(config.class_names) if config.class_names else class_names
    if needed:
        refuse_ids(names, config.class_names, flags)
    return Captioner(
        keys=alternatives(config.caption_key),
        class_names=names,
        templates=config.templates,
        needed=needed,
        flags=flags,
    )


def alternatives(keys: str) -> tuple[str, ...]:
    """`"jpg;png"` as ("jpg", "png")."""
    return tuple(key.strip() for key in keys.split(";") if key.strip())


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The lines of a text file of class names, in class order; empty lines are left out, WordNet
    ids are read as `spoken_names` has them. Raises DataError if it can't be read or holds none.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.data import read_class_names
    >>> path = Path(tempfile.mkdtemp(), "names.txt")
    >>> _ = path.write_text("cat\\ndog\\n")
    >>> read_class_names(path)
    ('cat', 'dog')
    """
    try:
        lines = read_text(Path(path).expanduser()).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"the class names in {path} can't be read: {reason(error)}{beside(path)}"
        ) from None
    names = spoken_names([line.strip() for line in lines if line.strip()])
    if not names:
        raise DataError(f"{path} holds no class names; write one a line, in class order")
    return names
