"""Per-sample results, so small that they are kept beside each result: two models are compared by
them later."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from diptych.arrays import read_npz
from diptych.durable import write_file
from diptych.errors import DataError

_MOST = 1_000_000_000
"""Bytes that the results of an evaluation may take: some sixty million samples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PerSample:
    """The rank of the right class, caption or picture of each sample, in the order of the dataset:
    50,000 samples take some 50 KB.

    >>> import numpy as np
    >>> from diptych.evaluation import PerSample
    >>> found = PerSample.of(np.array([0, 3, 0]), ["a.jpg", "b.jpg", "c.jpg"])
    >>> found.correct().tolist(), found.correct(5).mean().item()
    ([True, False, True], 1.0)
    """

    ranks: Int[np.ndarray, " n"]
    """how many stand before the right one: 0 is correct"""
    clusters: Int[np.ndarray, " n"]
    """samples that are no independent evidence share a number: captions of one picture; else all
    differ"""
    names_sha256: str
    """of the samples' names in order: equal for the same samples only"""

    @classmethod
    def of(
        cls,
        ranks: Int[np.ndarray, " n"],
        names: Iterable[str],
        clusters: Int[np.ndarray, " n"] | None = None,
    ) -> "PerSample":
        """From ranks and what each sample is called. Of what is only right or wrong, the ranks are
        0 and 1."""
        names = tuple(names)
        assert len(names) == len(ranks), f"{len(ranks)} ranks, {len(names)} names"
        digest = sha256(json.dumps(names).encode()).hexdigest()
        own = np.arange(len(ranks)) if clusters is None else clusters
        return cls(ranks=ranks, clusters=own, names_sha256=digest)

    def correct(self, k: int = 1) -> Bool[np.ndarray, " n"]:
        """Whether the right one is among the k first."""
        return self.ranks < k

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one .npz, whole or not at all."""
        # The steps between clusters are nearly all 1, which compresses to nothing.
        steps = np.diff(self.clusters, prepend=0)
        ranks, digest = _small(self.ranks), np.array(self.names_sha256)

        def write(part: Path) -> None:
            np.savez_compressed(part, ranks=ranks, steps=steps, keys=digest)

        return write_file(Path(path), write)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PerSample":
        """What `save` wrote. Raises DataError for another file, or none."""
        try:
            arrays = read_npz(path, most=_MOST)
            ranks, steps = arrays["ranks"], arrays["steps"]
            if ranks.shape != steps.shape or not {ranks.dtype.kind, steps.dtype.kind} <= {"i", "u"}:
                raise ValueError("its ranks and steps aren't whole numbers of the same samples")
            return cls(
                ranks=ranks.astype(np.int64).ravel(),
                clusters=steps.cumsum(),
                names_sha256=str(arrays["keys"]),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{os.fspath(path)} holds no per-sample results of an evaluation: {error}"
            ) from error


def _small(ranks: Int[np.ndarray, " n"]) -> np.ndarray:
    """In the smallest type of integer that holds them."""
    return ranks.astype(np.min_scalar_type(int(ranks.max(initial=0))))
