"""Bringing the index up to date while it is searched: one update at a time, in a thread of its
own."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from diptych.app.library import Library
from diptych.encoder import Encoder
from diptych.errors import DataError, DiptychError, is_out_of_memory
from diptych.search import Changes, update

_BATCH = 8
"""Pictures that the model sees at a time: who types meanwhile waits no longer than for these."""
_LISTED = 100
"""Pictures that couldn't be read, which a page lists."""


class _Stopped(Exception):
    """Somebody has seen enough."""


@dataclass(frozen=True, kw_only=True)
class State:
    """How far an update is."""

    stage: Literal["idle", "looking", "encoding", "done", "stopped", "failed"] = "idle"
    done: int = 0
    """Pictures encoded, of `total` that are new or changed."""
    total: int = 0
    said: str = ""
    """What it did, or why it failed, in a sentence."""
    unreadable: tuple[str, ...] = ()
    """What couldn't be read, and why."""

    @property
    def is_running(self) -> bool:
        """Whether one is under way."""
        return self.stage in ("looking", "encoding")


class Updating:
    """Starts updates of the index that is open, and says how far they are."""

    def __init__(self, library: Library, encoder: Encoder):
        self.state = State()
        self._library, self._encoder = library, encoder
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin one. Raises DataError if one is under way, or where to look isn't known."""
        with self._lock:
            if self.state.is_running:
                raise DataError("an update is under way; wait until it has finished, or stop it")
            places = self._there()
            self._stop.clear()
            self.state = State(stage="looking")
            self._thread = threading.Thread(
                target=self._run, args=(places,), name="update", daemon=True
            )
            self._thread.start()

    def _there(self) -> list[str]:
        """The places that were indexed and are there now. Raises DataError if none is."""
        folder, sources = self._library.folder, self._library.shelf.index.sources
        if not sources:
            raise DataError(
                f"{folder} doesn't say where its pictures come from: run `diptych embed PICTURES "
                f"--out {folder}` once"
            )
        there = [source for source in sources if os.path.lexists(source)]
        if not there:
            raise DataError(f"none of {', '.join(sources)} is there now")
        return there

    def stop(self, wait: float = 0.0) -> None:
        """End the one that is under way, and keep what it has done; wait for it so many seconds."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(wait)

    def _run(self, places: Sequence[str]) -> None:
        end = State(stage="failed", said="a defect of Diptych; the terminal says more")
        try:
            changes = update(
                self._library.folder,
                places,
                self._encoder,
                exclude=self._library.shelf.index.exclude,
                batch_size=_BATCH,
                on_progress=self._count,
            )
            lost = tuple(reason for _, reason in changes.unreadable[:_LISTED])
            end = replace(self.state, stage="done", said=summary(changes), unreadable=lost)
        except _Stopped:
            end = replace(self.state, stage="stopped", said="stopped; what was done is kept")
        except (DiptychError, OSError) as error:
            end = replace(self.state, stage="failed", said=str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            end = replace(self.state, stage="failed", said="there isn't enough memory for this")
        finally:
            self._library.reopen()
            self.state = end

    def _count(self, done: int, total: int) -> None:
        self.state = replace(self.state, stage="encoding", done=done, total=total)
        if self._stop.is_set():
            raise _Stopped


def summary(changes: Changes) -> str:
    """What an update did, in a sentence.

    >>> from diptych.app.updating import summary
    >>> from diptych.search import Changes
    >>> summary(Changes(added=12, kept=3)), summary(Changes(kept=3))
    ('12 added', 'nothing has changed')
    """
    parts = {
        "added": changes.added,
        "changed": changes.changed,
        "removed": changes.removed,
        "unreadable": len(changes.unreadable),
        "not seen, and kept": changes.absent.total(),
    }
    said = [f"{count:,} {what}" for what, count in parts.items() if count]
    return ", ".join(said) or "nothing has changed"
