"""The near duplicates of the whole index, for who goes through them: looked for once they are asked
for, in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Any

from diptych.app.library import Library, Shelf
from diptych.app.ranking import ALIKE
from diptych.errors import DataError, DiptychError
from diptych.search import Picture
from diptych.search.duplicates import group_of, grouped

_SHOWN = 100
"""Pictures of a group."""


class _Stopped(Exception):
    """The app ends, or the index is another one now."""


class Looking:
    """A search for the groups of one shelf."""

    def __init__(self, library: Library, stop: threading.Event):
        self.shelf: Shelf = library.shelf
        self.groups: list[list[int]] | None = None
        """Their rows, the largest group first; None: not known yet."""
        self.done = 0
        """Pictures that are compared."""
        self.error = ""
        self._library, self._stop = library, stop
        threading.Thread(target=self._run, name="duplicates", daemon=True).start()

    def _run(self) -> None:
        try:
            found = grouped(self.shelf.index, ALIKE, on_progress=self._hear)
            self.groups = sorted(found, key=len, reverse=True)
        except _Stopped:
            return
        except (DiptychError, OSError, MemoryError) as error:
            self.error = str(error) or "there is too little memory"

    def _hear(self, done: int, total: int) -> None:
        self.done = done
        if self._stop.is_set() or self._library.shelf is not self.shelf:
            raise _Stopped

    def page(
        self, offset: int, limit: int, describe: Callable[[int, Picture], dict[str, Any]]
    ) -> dict[str, Any]:
        """Some groups, in JSON, of pictures that are described so; or how far it is."""
        groups, last = self.groups, offset + limit
        about = {"version": self.shelf.number, "pictures": len(self.shelf.index), "done": self.done}
        if groups is None:
            return about
        return about | {
            "total": len(groups),
            "alike": sum(map(len, groups)) - len(groups),
            "next": last if last < len(groups) else None,
            "groups": [self._group(rows, describe) for rows in groups[offset:last]],
        }

    def _group(
        self, rows: list[int], describe: Callable[[int, Picture], dict[str, Any]]
    ) -> dict[str, Any]:
        group = group_of(self.shelf.index, rows[:_SHOWN])
        hits = [describe(group.row, group.kept) | {"score": None, "copy": False}]
        for other in group.others:
            about = {"score": round(other.score, 4), "copy": other.is_copy}
            hits.append(describe(other.row, other.picture) | about)
        return {"size": len(rows), "hits": hits}


class Doubles:
    """The search for those of the shelf that is open."""

    def __init__(self, library: Library):
        self._library = library
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._looking: Looking | None = None

    def looking(self) -> Looking:
        """How far it is; it begins where nobody has asked yet, and where the index is another one.
        Raises DataError where it failed."""
        with self._lock:
            found = self._looking
            if found is None or found.shelf is not self._library.shelf:
                found = self._looking = Looking(self._library, self._stop)
            if found.error:
                self._looking = None  # who asks again tries again
                raise DataError(found.error)
            return found

    def stop(self) -> None:
        """End what is under way, after the block of pictures that it is at."""
        self._stop.set()
