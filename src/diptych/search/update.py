"""Making an index, and bringing it up to date: only what is new or changed is encoded."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.search import store
from diptych.search.pictures import Picture, Report, find, roots


@dataclass(kw_only=True)
class Changes:
    """What an update did, in pictures."""

    added: int = 0
    changed: int = 0
    """Encoded again, because size or time of the file differ."""
    removed: int = 0
    """Their files have vanished."""
    kept: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(path, reason) of what couldn't be read; tried again by the next update."""
    others: Counter[str] = field(default_factory=Counter[str])
    """Files that are no pictures, by their endings; and linked folders, which aren't entered."""


def update(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    *,
    half: bool = False,
    batch_size: int = 32,
    chunk: int = 256,
    progress: bool = False,
) -> Changes:
    """Make the index in `folder` hold exactly the pictures of `source` (a folder, a tar shard, a
    brace or shell pattern, or several of them).

    Pictures of the index that lie elsewhere stay as they are. Vectors are written in chunks of
    `chunk` pictures: a killed update loses no more than one, and the next update goes on from
    there. `half` stores a new index in float16.

    The same model in another place is the index's from then on.

    Raises ConfigError if the index was made by another model, DataError if there is no `source`, or
    no picture in it nor in the index of it, or something other than an index lies in `folder`.

    >>> import tempfile
    >>> from PIL import Image
    >>> from diptych import Encoder, models, search, pretrained
    >>> folder = tempfile.mkdtemp()
    >>> Image.new("RGB", (60, 40)).save(f"{folder}/black.png")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> search.update(f"{folder}/index", folder, encoder).added
    1
    >>> search.update(f"{folder}/index", folder, encoder).kept
    1
    """
    places, changes, found = roots(source), Changes(), dict[str, Picture]()
    report = _report_to(changes)
    for place in places:
        found |= {picture.path: picture for picture in find(place, report, changes.others)}
    is_there = store.exists(folder)  # refuses a folder of other things
    if not (is_there or found or changes.unreadable):
        raise _nothing(places, changes)
    with store.locked(folder):
        if is_there:
            store.Store(folder).check_model(encoder.identity)
            store.set_model(folder, encoder.identity)
        else:
            kind = "float16" if half else "float32"
            store.create(
                folder, store.IndexMeta(model=encoder.identity, width=encoder.width, vectors=kind)
            )
        kept, stale = _drop_stale(folder, places, found)
        changes.kept, changes.removed = len(kept), len(stale - found.keys())
        if not (found or stale or changes.unreadable):
            raise _nothing(places, changes)
        new = [picture for path, picture in found.items() if path not in kept]
        batches = encoder.stream(
            new,
            read=Picture.read,
            name=lambda picture: picture.path,
            batch_size=batch_size,
            total=len(new),
            progress=progress and bool(new),
            unreadable=lambda picture, error: report(picture.path, str(error)),
        )
        with store.Appender(folder) as index:
            for pictures, vectors in _chunks(batches, chunk):
                index.append(pictures, vectors)
                again = sum(picture.path in stale for picture in pictures)
                changes.changed += again
                changes.added += len(pictures) - again
    return changes


def _nothing(places: Sequence[str], changes: Changes) -> DataError:
    kinds = ", ".join(f"{ending} {count}" for ending, count in changes.others.most_common(5))
    return DataError(
        f"there are no pictures in {', '.join(places)}" + (f", only {kinds}" if kinds else "")
    )


def _report_to(changes: Changes) -> Report:
    return lambda path, reason: changes.unreadable.append((path, reason))


def _drop_stale(
    folder: str | os.PathLike[str], places: list[str], found: dict[str, Picture]
) -> tuple[set[str], set[str]]:
    """Drop the rows of pictures under `places` that are not `found` as they were; the paths kept
    there, and dropped."""
    index = store.Store(folder)
    kept, stale, keep = set[str](), set[str](), np.ones(len(index), bool)
    for row, picture in enumerate(index.pictures()):
        if found.get(picture.path) == picture:
            kept.add(picture.path)
        elif any(_is_under(picture.path, place) for place in places):
            stale.add(picture.path)
            keep[row] = False
    if stale:
        store.drop(folder, keep)
    return kept, stale


def _is_under(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _chunks(
    batches: Iterable[tuple[list[Picture], Float[Tensor, "batch width"]]], size: int
) -> Iterator[tuple[list[Picture], Float[Tensor, "chunk width"]]]:
    """Join batches to chunks of at least `size` rows; the last one may be smaller."""
    pictures, parts = list[Picture](), list[Tensor]()
    for more, vectors in batches:
        pictures += more
        parts.append(vectors)
        if len(pictures) >= size:
            yield pictures, torch.cat(parts)
            pictures, parts = [], []
    if pictures:
        yield pictures, torch.cat(parts)
