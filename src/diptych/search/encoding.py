"""What is new of an index, encoded by one process or by several, and written by the first."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.distributed import Peers, together
from diptych.encoder import Encoder
from diptych.search.pictures import Picture, digest
from diptych.search.writer import Appender

_Part = tuple[list[Picture], Float[Tensor, "pictures width"]]
"""Pictures with their digests, and their vectors."""


@dataclass
class Encoding:
    """Pictures of which vectors are asked for, and what became of them."""

    pictures: Sequence[Picture]
    written: list[str] = field(default_factory=list[str])
    """Paths of those that are in the index."""
    unreadable: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Paths of those that can't be read, and why."""

    def run(
        self,
        folder: str | os.PathLike[str],
        encoder: Encoder,
        peers: Peers,
        *,
        batch_size: int,
        chunk: int,
        progress: bool,
        on_progress: Callable[[int, int], object],
    ) -> None:
        """Encode them, every process its share of the batches, and add them to the index in chunks.
        What one process alone has encoded is written if it is stopped; of several, what all have
        given to the first. The vectors, and mostly their order, are those of one process."""
        waiting, done = list[_Part](), 0
        total = len(self.pictures)
        on_progress(0, total)
        with ExitStack() as stack:
            index = stack.enter_context(Appender(folder)) if peers.is_main else None

            def write() -> None:
                pictures = list(chain.from_iterable(some for some, _ in waiting))
                vectors = torch.cat([vectors for _, vectors in waiting])
                waiting.clear()
                if index is not None:
                    index.append(pictures, vectors)
                self.written += [picture.path for picture in pictures]

            try:
                for part in _everyones(self._batches(encoder, peers, batch_size, progress), peers):
                    waiting.append(part)
                    done += len(part[0])
                    if sum(len(pictures) for pictures, _ in waiting) >= chunk:
                        together(peers, write)
                    on_progress(done + len(self.unreadable), total)
            finally:  # an interrupted update keeps what is done
                if waiting:
                    write()
        others = peers.all_gather_objects(self.unreadable)
        self.unreadable = list(chain.from_iterable(others))

    def _batches(
        self, encoder: Encoder, peers: Peers, batch_size: int, progress: bool
    ) -> Iterator[_Part]:
        """This process's share: whole batches, so that they are the same on any number of them."""
        starts = range(peers.rank * batch_size, len(self.pictures), peers.size * batch_size)
        share = [self.pictures[start : start + batch_size] for start in starts]
        mine, digests = list(chain.from_iterable(share)), dict[str, str]()

        def read(picture: Picture) -> bytes:
            data = picture.read()
            digests[picture.path] = digest(data)
            return data

        batches = encoder.stream(
            mine,
            read=read,
            name=lambda picture: picture.path,
            batch_size=batch_size,
            total=len(mine),
            progress=progress and peers.is_main and bool(mine),
            unreadable=lambda picture, error: self.unreadable.append((picture.path, str(error))),
        )
        for pictures, vectors in batches:
            known = [replace(each, digest=digests.pop(each.path)) for each in pictures]
            yield known, vectors


def _everyones(batches: Iterator[_Part], peers: Peers) -> Generator[_Part, None, None]:
    """The batches of all processes, on each of them; an error on one is an error on all."""
    if peers.size == 1:
        yield from batches
        return
    while True:
        mine = together(peers, lambda: next(batches, None))
        parts = [part for part in peers.all_gather_objects(mine) if part is not None]
        if not parts:
            return
        yield from parts
