"""What became of every sample, so small that it is kept beside each result: two models are compared
by it later."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from diptych.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """The rank of the right answer of each sample, in the order of the set: 50,000 samples take
    some 50 KB.

    >>> import numpy as np
    >>> from diptych.evaluation import Outcomes
    >>> outcomes = Outcomes.of(np.array([0, 3, 0]), ["a.jpg", "b.jpg", "c.jpg"])
    >>> outcomes.right().tolist(), outcomes.right(5).mean().item()
    ([True, False, True], 1.0)
    """

    ranks: Int[np.ndarray, " n"]
    """how many stand before the right answer: 0 is right"""
    clusters: Int[np.ndarray, " n"]
    """samples that are no independent evidence share a number: captions of one picture; else all
    differ"""
    keys: str
    """SHA-256 of the samples' names in order: equal for the same samples only"""

    @classmethod
    def of(
        cls,
        ranks: Int[np.ndarray, " n"],
        names: Iterable[str],
        clusters: Int[np.ndarray, " n"] | None = None,
    ) -> "Outcomes":
        """From ranks and what each sample is called. Of what is only right or wrong, the ranks are
        0 and 1."""
        names = tuple(names)
        assert len(names) == len(ranks), f"{len(ranks)} ranks, {len(names)} names"
        keys = sha256(json.dumps(names).encode()).hexdigest()
        return cls(
            ranks=ranks, clusters=np.arange(len(ranks)) if clusters is None else clusters, keys=keys
        )

    def right(self, k: int = 1) -> Bool[np.ndarray, " n"]:
        """Whether the right answer is among the k first."""
        return self.ranks < k

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one .npz, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with open(part, "wb") as file:
            # The steps between clusters are nearly all 1, which compresses to nothing.
            steps = np.diff(self.clusters, prepend=0)
            np.savez_compressed(
                file, ranks=_small(self.ranks), steps=steps, keys=np.array(self.keys)
            )
        return part.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Outcomes":
        """What `save` wrote. Raises DataError for another file, or none."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                ranks, clusters = arrays["ranks"].astype(np.int64), arrays["steps"].cumsum()
                return cls(ranks=ranks, clusters=clusters, keys=str(arrays["keys"]))
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(
                f"{os.fspath(path)} holds no outcomes of an evaluation: {error}"
            ) from error


def _small(ranks: Int[np.ndarray, " n"]) -> np.ndarray:
    return ranks.astype(np.min_scalar_type(int(ranks.max(initial=0))))
