"""Pages of remote files, kept on this machine for its processes while there is room."""

from collections.abc import Callable
from dataclasses import dataclass

from diptych.data.bounded_folder import BoundedFolder

PAGE = 1 << 21
"""Bytes of a page: many samples, and a moment of a network."""


@dataclass(frozen=True)
class Pages:
    """Reads remote files in whole pages, each asked for once as long as the folder keeps it: for
    readers that come back for what lies beside."""

    folder: BoundedFolder

    def read(
        self, name: str, length: int, start: int, end: int, fetch: Callable[[int, int], bytes]
    ) -> bytes:
        """Bytes `start` to before `end` of the file with that name and length, of which `fetch`
        gives any."""
        numbers = range(start // PAGE, (end - 1) // PAGE + 1)
        pieces = self._kept(name, numbers, start, end)
        if None in pieces.values():
            with self.folder.locked(f"{name}-{numbers.start}"):
                # Another process may just have been within for the same.
                pieces = self._kept(name, numbers, start, end)
                missing = [number for number, piece in pieces.items() if piece is None]
                if missing:
                    first, past = missing[0] * PAGE, min((missing[-1] + 1) * PAGE, length)
                    data = fetch(first, past)
                    for number in missing:
                        page = data[number * PAGE - first :][:PAGE]
                        self.folder.put(f"{name}-{number}", page)
                        pieces[number] = page[_within(number, start, end)]
        return b"".join(piece for piece in pieces.values() if piece is not None)

    def _kept(self, name: str, numbers: range, start: int, end: int) -> dict[int, bytes | None]:
        """What of `start` to `end` lies in each page; None where the page isn't there."""
        found = dict[int, bytes | None]()
        for number in numbers:
            place = _within(number, start, end)
            size = place.stop - place.start
            piece = self.folder.read(f"{name}-{number}", place.start, size)
            found[number] = piece if piece is not None and len(piece) == size else None
        return found


def _within(number: int, start: int, end: int) -> slice:
    """Where bytes `start` to before `end` of a file lie within one of its pages."""
    return slice(max(start - number * PAGE, 0), min(end - number * PAGE, PAGE))
