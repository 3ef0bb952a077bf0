"""Pictures that an index has several times, wholly or nearly alike."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.encoder.progress import track
from diptych.search.filters import Where
from diptych.search.index import Index
from diptych.search.pictures import Picture
from diptych.similarity import FastProducts, exact_matrix, exact_pairs

_BLOCK, _TILE = 1024, 4096
"""Rows that are compared with so many others at a time."""


@dataclass(frozen=True)
class Duplicate:
    """One of a group that isn't the one to keep."""

    picture: Picture
    score: float
    """Cosine with the one to keep. It may lie below the threshold: then both are near others."""
    is_copy: bool
    """Byte for byte the same as another of the group, which is kept or is none."""


@dataclass(frozen=True)
class Group:
    """Pictures that are near each other, directly or by others of the group."""

    kept: Picture
    """The one with the most pixels; of those the most bytes; of those the first in the index."""
    others: tuple[Duplicate, ...]
    """Copies first, then by how near they are."""


def duplicates(
    index: Index,
    threshold: float = 0.97,
    *,
    copies: bool = False,
    where: Where | None = None,
    progress: bool = False,
) -> list[Group]:
    """The groups of an index's pictures whose cosines are at least the `threshold`, or with
    `copies` of those with the same bytes, in the order of the index. Nothing is approximated, and
    nothing is changed or deleted.

    All pairs are compared: 100,000 pictures take as long as 100,000 searches in one pass. Memory
    holds one tile of scores.

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
    rows = torch.from_numpy(np.flatnonzero(index.among(where)))
    if copies:
        labels = _with_same_bytes(index, rows.tolist())
    else:
        labels = _connected(index.vectors, rows, threshold, progress)
    members = defaultdict[int, list[int]](list)
    for label, row in zip(labels.tolist(), rows.tolist(), strict=True):
        members[label].append(row)
    return [_group(index, some) for some in members.values() if len(some) > 1]


def _with_same_bytes(index: Index, rows: Sequence[int]) -> Int[np.ndarray, " rows"]:
    """Entries of which the digest isn't known, as in an old index, are groups of their own."""
    numbers = dict[str, int]()
    digests = [index.picture(row).digest or str(row) for row in rows]
    return np.array([numbers.setdefault(each, len(numbers)) for each in digests], np.int64)


def _connected(
    vectors: Float[Tensor, "all width"], rows: Int[Tensor, " rows"], threshold: float, shown: bool
) -> Int[np.ndarray, " rows"]:
    """For each of the rows the number of its group."""
    labels = np.arange(len(rows))
    blocks = ((range(at, min(at + _BLOCK, len(rows))), None) for at in range(0, len(rows), _BLOCK))
    for block, _ in track(blocks, "pictures", len(rows)) if shown else blocks:
        queries = vectors[rows[block.start : block.stop]].float()
        fast = FastProducts(queries)
        lowest = fast.rounded(threshold - fast.error)[:, None]
        highest = fast.rounded(threshold + fast.error)[:, None]
        for start in range(block.start, len(rows), _TILE):
            tile = vectors[rows[start : start + _TILE]]
            scores = fast(tile)
            near = _apart(scores >= lowest, labels, block.start, start)
            sure = (scores > highest).numpy()[near]
            left, right = (torch.from_numpy(places[~sure]) for places in near)
            sure[~sure] = (exact_pairs(queries, left, tile, right) >= threshold).numpy()
            if sure.any():
                labels = _joined(labels, near[0][sure] + block.start, near[1][sure] + start)
    return labels


def _apart(
    near: Bool[Tensor, "block tile"], labels: np.ndarray, first: int, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of which it isn't known yet that they belong together."""
    left, right = near.numpy().nonzero()
    apart = labels[left + first] != labels[right + start]
    return left[apart], right[apart]


def _joined(labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The labels when these pairs belong together, too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(labels)
    pairs = labels[left], labels[right]
    graph = coo_array((np.ones(len(left), bool), pairs), shape=(size, size))
    return connected_components(graph, directed=False)[1][labels]


def _group(index: Index, rows: list[int]) -> Group:
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
            others.append(Duplicate(pictures[row], score, bool(digest) and digest in seen))
            seen.add(digest)
    others.sort(key=lambda other: (not other.is_copy, -other.score))
    return Group(pictures[best], tuple(others))
