"""The index that the app has open: replaced when it was updated, here or by another program, while
searches go on."""

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from diptych.app.model import Recent
from diptych.app.pictures import Gone, fingerprint
from diptych.app.ranking import Ranking
from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError, DiptychError
from diptych.search import Index, Picture, Where

_RANKINGS = 64
"""Queries whose answers are kept, for who scrolls on."""
_SAMPLE = 4096
"""Pictures by which others' scores are judged."""
_PAUSE = 1.0
"""Seconds between two looks whether the index has changed."""
_PATIENCE = 20.0
"""Seconds for which a writer that goes on is waited for."""
_NAME = re.compile(r"(\d{1,12})-([0-9a-f]{16})")


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """An index as it was when it was opened."""

    index: Index
    damaged: int
    """Entries that can't be found."""
    number: int
    """How many were opened before: what a browser knows a change by."""
    stamp: tuple[int, ...]
    rankings: Recent[tuple[bytes, Where | None, bool], Ranking] = field(
        default_factory=lambda: Recent(_RANKINGS)
    )

    @cached_property
    def _sample(self) -> Float[Tensor, "some width"]:
        step = -(-len(self.index) // _SAMPLE) or 1
        return self.index.vectors[::step].float()

    def typical(self, vector: Float[Tensor, " width"]) -> float:
        """The score that half of some thousand pictures have, taken from all over the index."""
        return float((self._sample @ vector).median()) if len(self.index) else 0.0

    def name(self, row: int, picture: Picture) -> str:
        """What a browser calls a picture: its row and what was indexed there."""
        return f"{row}-{fingerprint(picture)}"

    def find(self, name: str) -> tuple[int, Picture]:
        """Row and picture of a name. Raises Gone if it is none of this index, as after an update
        in which its row moved."""
        match = _NAME.fullmatch(name)
        row = int(match[1]) if match else -1
        if match and row < len(self.index):
            picture = self.index.picture(row)
            if fingerprint(picture) == match[2]:
                return row, picture
        raise Gone("the index has changed, and this picture isn't where it was: search again")

    def ranking(
        self, vector: Float[Tensor, " width"], where: Where | None, is_distinct: bool
    ) -> Ranking:
        """What is nearest to a vector; the same for who asks again."""
        key = vector.numpy().tobytes(), where, is_distinct
        found = self.rankings.get(key)
        if found is None:
            found = Ranking(self.index, vector, where, is_distinct)
            self.rankings.put(key, found)
        return found

    @cached_property
    def places(self) -> list[str]:
        """Where pictures may lie, without links."""
        return [os.path.realpath(source) for source in self.index.sources]

    @cached_property
    def columns(self) -> dict[str, str]:
        """What pictures can be filtered by: column -> number, text, date or truth."""
        try:
            return {name: str(kind) for name, kind in self.index.metadata.kinds.items()}
        except DataError:  # damaged, which who filters is told
            return {}


class Library:
    """The shelf that is open, and the thread that looks whether there is a newer one."""

    def __init__(self, folder: str, encoder: Encoder, say: Callable[[str], object]):
        self.folder = folder
        self.notice = ""
        """Why the index on the disk can't be opened any more; empty: it can."""
        self._encoder, self._say = encoder, say
        self._lock = threading.Lock()
        self.shelf = self._open(0)

    def _open(self, number: int) -> Shelf:
        stamp = stamp_of(self.folder)  # before: what is written meanwhile is noticed the next time
        index = Index.open(self.folder, self._encoder)
        if index.holds != "pictures":
            raise ConfigError(
                f"{self.folder} is an index of {index.holds}, and the app shows pictures: "
                "`diptych search` finds texts"
            )
        damaged = index.damaged  # counted now, and not while the first one types
        index.hold()
        return Shelf(index=index, damaged=damaged, number=number, stamp=stamp)

    def reopen(self) -> None:
        """Open what is there now, if it is another one; else what is open stays."""
        with self._lock:
            try:
                if stamp_of(self.folder) != self.shelf.stamp:
                    self.shelf = self._open(self.shelf.number + 1)
                self.notice = ""
            except (DiptychError, OSError) as error:
                notice = f"{error}; what was open before is still searched"
                if notice != self.notice:
                    self._say(notice)
                self.notice = notice

    def watch(self, stop: threading.Event) -> None:
        """Reopen whenever another program has updated the index, until `stop`."""
        last, since = self.shelf.stamp, 0.0
        while not stop.wait(_PAUSE):
            stamp = stamp_of(self.folder)
            if stamp == self.shelf.stamp and not self.notice:
                since = 0.0
                continue
            since = since or time.monotonic()
            # A writer adds some hundred at a time: wait until it pauses, but not for ever.
            if stamp == last or time.monotonic() - since > _PATIENCE:
                self.reopen()
                since = 0.0
            last = stamp


def stamp_of(folder: str) -> tuple[int, ...]:
    """By what one sees from outside whether an index has changed; empty: it isn't there."""
    try:
        meta = (Path(folder) / "meta.json").stat()
        items = sum(path.stat().st_size for path in Path(folder).glob("items-*.jsonl"))
    except OSError:
        return ()
    return meta.st_mtime_ns, meta.st_ino, items
