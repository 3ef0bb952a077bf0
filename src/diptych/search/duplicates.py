"""Pictures that an index has several times, wholly or nearly alike."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from diptych.encoder.progress import track
from diptych.search.connected import Connecting
from diptych.search.filters import Where
from diptych.search.index import Index
from diptych.search.pictures import Picture
from diptych.similarity import exact_matrix, reaching


@dataclass(frozen=True)
class Duplicate:
    """One of a group that isn't the one to keep."""

    picture: Picture
    row: int
    """Of the picture in the index."""
    score: float
    """Cosine with the one to keep. It may lie below the threshold: then both are near others."""
    is_copy: bool
    """Byte for byte the same as another of the group, which is kept or is none."""


@dataclass(frozen=True)
class Group:
    """Pictures that are near each other, directly or by others of the group."""

    kept: Picture
    """The one with the most pixels; of those the most bytes; of those the first in the index."""
    row: int
    """Of that."""
    others: tuple[Duplicate, ...]
    """Copies first, then by how near they are."""


def duplicates(
    index: Index,
    threshold: float = 0.97,
    *,
    copies: bool = False,
    where: Where | str | None = None,
    progress: bool = False,
) -> list[Group]:
    """The groups of an index's pictures whose cosines are at least the `threshold`, or with
    `copies` of those with the same bytes, in the order of the index. Nothing is approximated, and
    nothing is changed or deleted. A threshold of 1 asks for equal vectors.

    All pairs are compared (`search/connected.py`): the time grows with the square of the pictures.

    >>> import tempfile
    >>> from PIL import Image
    >>> from diptych import Encoder, Index, models, pretrained
    >>> from diptych.search import duplicates
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("a.png", "b.png"):
    ...     Image.new("RGB", (60, 40)).save(f"{folder}/{name}")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> [group] = duplicates(Index.build(f"{folder}/index", folder, encoder))
    >>> group.kept.path.endswith("a.png"), group.others[0].is_copy
    (True, True)
    """
    found = grouped(index, threshold, copies=copies, where=where, progress=progress)
    return [group_of(index, rows) for rows in found]


def grouped(
    index: Index,
    threshold: float = 0.97,
    *,
    copies: bool = False,
    where: Where | str | None = None,
    progress: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[list[int]]:
    """The rows of each group; `on_progress` hears how many of how many pictures are compared."""
    rows = torch.from_numpy(np.flatnonzero(index.among(where)))
    if copies:
        labels = _with_same_bytes(index, rows.tolist())
    else:
        near = Connecting(index.vectors, rows, reaching(threshold, index.vectors.dtype))
        blocks = ((block, None) for block in near.blocks())
        for block, _ in track(blocks, "pictures", len(rows)) if progress else blocks:
            on_progress(block.stop, len(rows))
        labels = near.labels
    members = defaultdict[int, list[int]](list)
    for label, row in zip(labels.tolist(), rows.tolist(), strict=True):
        members[label].append(row)
    return [some for some in members.values() if len(some) > 1]


def _with_same_bytes(index: Index, rows: Sequence[int]) -> Int[np.ndarray, " rows"]:
    """Entries of which the digest isn't known, as in an old index, are groups of their own."""
    numbers = dict[str, int]()
    digests = [index.picture(row).digest or str(row) for row in rows]
    return np.array([numbers.setdefault(each, len(numbers)) for each in digests], np.int64)


def group_of(index: Index, rows: Sequence[int]) -> Group:
    """Which of these rows to keep, and the others."""
    pictures = {row: index.picture(row) for row in rows}

    def worth(row: int) -> tuple[int, int]:
        known = index.metadata.of(row)
        width, height = known.get("width"), known.get("height")
        pixels = width * height if isinstance(width, int) and isinstance(height, int) else 0
        return pixels, pictures[row].nbytes

    best = max(rows, key=worth)
    seen, others = {pictures[best].digest}, list[Duplicate]()
    for row in rows:
        if row != best:
            digest = pictures[row].digest
            score = float(exact_matrix(index.vectors[[best]], index.vectors[[row]]))
            others.append(Duplicate(pictures[row], row, score, bool(digest) and digest in seen))
            seen.add(digest)
    others.sort(key=lambda other: (not other.is_copy, -other.score))
    return Group(pictures[best], best, tuple(others))
