"""Exact search: the pictures whose vectors are nearest to a query's."""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diptych.encoder import Encoder, Identity, load
from diptych.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DataWarning,
    UnknownNameError,
)
from diptych.inputs import Picture as Image
from diptych.search import meta
from diptych.search.approximate import Approximate
from diptych.search.filters import Condition, Where
from diptych.search.metadata import Metadata
from diptych.search.pictures import Picture
from diptych.search.query import AnyQuery, Query, Term, as_query, encode
from diptych.search.scan import in_half, nearest
from diptych.search.store import Store
from diptych.search.update import update
from diptych.similarity import reaching

_ROWS = 65536
"""Vectors of which the median is taken at a time."""
_HELD = 4 << 30
"""Bytes of vectors in memory."""
_FILTERS = 8
"""Of which the rows are kept."""


@dataclass(frozen=True)
class Hit:
    """One result."""

    picture: Picture
    score: float
    """Cosine of the angle between the query and the picture, in [-1, 1]."""
    row: int
    """Of the picture in the index."""

    @property
    def path(self) -> str:
        """Of the file; SHARD.tar/KEY.ENDING for a picture in a shard."""
        return self.picture.path


class Index:
    """Pictures, their vectors, and which model made them. The folder's layout stands in
    `search/store.py`.

    Made once and then opened with the path alone, it loads its model when a text asks for it:
    `Index.open("photos.index").search("red bicycle in snow", top=20)`.

    >>> import tempfile, numpy as np
    >>> from PIL import Image
    >>> from diptych import Encoder, Index, models, pretrained
    >>> folder = tempfile.mkdtemp()
    >>> noise = np.random.default_rng(0).integers(256, size=(2, 48, 48, 3), dtype=np.uint8)
    >>> for name, pixels in zip(("a.png", "b.png"), noise, strict=True):
    ...     Image.fromarray(pixels).save(f"{folder}/{name}")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> index = Index.build(f"{folder}/index", folder, encoder)
    >>> best, *_ = index.search(f"{folder}/b.png", top=2)
    >>> best.path.endswith("b.png"), round(best.score, 3)
    (True, 1.0)
    """

    def __init__(self, store: Store, encoder: Encoder | None = None, device: str | None = None):
        self._store = store
        self._encoder = encoder
        self._device = device
        self._graph: Approximate | None = None
        self._half: Tensor | None = None
        self._chosen = dict[Where, Bool[np.ndarray, " pictures"]]()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        encoder: Encoder | None = None,
        device: str | None = None,
    ) -> "Index":
        """The index in `folder`. Without an `encoder`, the index loads the model that made it when
        a query needs it.

        Raises DataError if there is no index, ConfigError if `encoder` is another model than the
        index's.
        """
        store = Store(folder)
        if encoder is not None:
            store.check_model(encoder.identity)
        return cls(store, encoder, device)

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        source: str | os.PathLike[str],
        encoder: Encoder,
        *,
        half: bool = False,
        progress: bool = False,
    ) -> "Index":
        """Make or update the index in `folder`; see `search.update`, which also says what
        changed. Raises DataError if none can be read."""
        changes = update(folder, source, encoder, half=half, progress=progress)
        if not meta.exists(folder):
            changes.refuse_nothing()
        return cls.open(folder, encoder)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._store.folder

    @property
    def made_by(self) -> Identity:
        """The model that made the vectors: its name or path, precision and fingerprint."""
        return self._store.made_by

    @property
    def holds(self) -> Literal["pictures", "texts"]:
        """What the vectors are of."""
        return self._store.meta.holds

    @property
    def sources(self) -> list[str]:
        """The folders, pictures and shards, as absolute paths, that its updates were about; empty:
        an index of before these were written down, until its next update."""
        return self._store.sources

    @property
    def exclude(self) -> tuple[str, ...]:
        """What the last update left out by its name."""
        return self._store.meta.exclude

    @property
    def damaged(self) -> int:
        """Entries that are lost, or aren't as they were written; counting reads them all."""
        return self._store.damaged

    def picture(self, row: int) -> Picture:
        """The picture whose vector is `vectors[row]`. Raises DataError if the entry is damaged."""
        return self._store.picture(row)

    @property
    def vectors(self) -> Float[Tensor, "pictures width"]:
        """All vectors, of unit length, memory-mapped."""
        return torch.from_numpy(self._store.vectors)

    @cached_property
    def encoder(self) -> Encoder:
        """The model that made the vectors. Raises CheckpointError if it isn't what it was."""
        if self._encoder is not None:
            return self._encoder
        made_by = self.made_by
        try:
            encoder = load(made_by.name, device=self._device, dtype=made_by.dtype)
        except (CheckpointError, UnknownNameError) as error:
            gone = os.path.isabs(made_by.name) and not os.path.exists(made_by.name)
            why = "which isn't there any more" if gone else f"which can't be loaded: {error}"
            raise CheckpointError(
                f"{self._store.folder} was made with {made_by.name}, {why}; if it has moved, say "
                "where: `diptych search --model PLACE`, Index.open(folder, diptych.load(PLACE))"
            ) from error
        if encoder.identity.fingerprint != made_by.fingerprint:
            raise CheckpointError(
                f"the model {made_by.name} has changed since {self._store.folder} was made "
                "with it; delete the index and embed again"
            )
        return encoder

    def search(
        self,
        query: AnyQuery,
        top: int = 10,
        *,
        threshold: float | None = None,
        where: Where | str | None = None,
        approximate: bool = False,
    ) -> list[Hit]:
        """The `top` nearest pictures, best first; equally near ones in the order of the index; with
        a `threshold` only those with at least this score, with `where` only among those pictures
        (one condition may be text: "width>=400").
        Nothing is approximated, unless asked for (`search.approximate`).

        A `query` is a text, the path of a picture (SHARD.tar/KEY.ENDING, too), a vector, or a
        `Query` of several. A string is a path if there is such a file; one that ends like a
        picture's name must be one. So files are opened: for what strangers typed there are
        `search_text`, and `Query.from_text` for several texts.
        """
        return self.search_many(
            [query], top, threshold=threshold, where=where, approximate=approximate
        )[0]

    def search_text(
        self,
        text: str,
        top: int = 10,
        *,
        threshold: float | None = None,
        where: Where | str | None = None,
    ) -> list[Hit]:
        """As `search`, of a text, whatever it looks like: no file is looked for."""
        return self.search(Query((Term(text),)), top, threshold=threshold, where=where)

    def search_image(
        self,
        image: Image,
        top: int = 10,
        *,
        threshold: float | None = None,
        where: Where | str | None = None,
    ) -> list[Hit]:
        """As `search`, of a picture: a path, the bytes of a file, a PIL image or pixels."""
        picture = Path(image) if isinstance(image, str) else image
        return self.search(Query((Term(picture),)), top, threshold=threshold, where=where)

    def search_many(
        self,
        queries: Sequence[AnyQuery] | Tensor,
        top: int = 10,
        *,
        threshold: float | None = None,
        where: Where | str | None = None,
        approximate: bool = False,
    ) -> list[list[Hit]]:
        """As `search`, of several queries, such as the rows of a matrix: their texts and pictures
        are encoded together, and the index's vectors are read once for a thousand of them."""
        if not len(queries):
            return []
        vectors = encode(list(map(as_query, queries)), lambda: self.encoder, self._store.meta.width)
        if not approximate:
            return self._hits(vectors, top, threshold, where)
        if where is not None:
            raise ConfigError("filters are for the exact search: leave them or `approximate` out")
        found = self.graph().nearest(vectors, _at_least_one(top))
        return [self._of_rows(rows, scores, threshold) for scores, rows in found]

    def graph(self, progress: bool = False) -> Approximate:
        """That of the approximate search, made if it isn't there or isn't current."""
        if self._graph is None:
            self._graph = Approximate.open(self._store, progress)
        return self._graph

    def encode(self, query: AnyQuery) -> Float[Tensor, " width"]:
        """The unit vector of a query. Raises DataError if it looks like a picture that isn't there,
        a folder or a URL."""
        return encode([as_query(query)], lambda: self.encoder, self._store.meta.width)[0]

    def median_score(self, vector: Float[Tensor, " width"]) -> float:
        """The score that half of the pictures have: with it a hit's score says how near it is."""
        scores = torch.cat([tile.float() @ vector for tile in self.vectors.split(_ROWS)])
        return float(scores[torch.from_numpy(self._sound)].median())

    @cached_property
    def _sound(self) -> Bool[np.ndarray, " pictures"]:
        """Which pictures can be found: known before the first search, said if not all can."""
        store = self._store
        if damaged := store.damaged:
            said = (
                f"{damaged:,} of {len(store) + store.lost:,} entries of {store.folder} are damaged"
            )
            mend = "`diptych embed PICTURES --out` of it makes them again"
            if not store.sound.any():
                raise DataError(f"{said}; {mend}")
            warnings.warn(f"{said}, and left out; {mend}", DataWarning, stacklevel=2)
        return store.sound

    @cached_property
    def metadata(self) -> Metadata:
        """What is known of the pictures beside their vectors."""
        return Metadata(self._store)

    def hold(self) -> None:
        """Keep the vectors in memory, too, in bfloat16: 1 GB for a million of width 512. Then a
        search by a single query takes half of its time, and finds the same. Nothing happens
        where the processor doesn't multiply in bfloat16, nor for more than 4 GB."""
        if 2 * self.vectors.numel() <= _HELD:
            self._half = in_half(self.vectors)

    def count(self, where: Where | str | None = None) -> int:
        """Among how many pictures is looked."""
        return int(self.among(where).sum())

    def among(self, where: Where | str | None = None) -> Bool[np.ndarray, " pictures"]:
        """Which rows are looked at: not damaged ones, and such as fulfil `where`. Those of the last
        few `where` are known and aren't looked for again."""
        if where is None:
            return self._sound
        if isinstance(where, str):
            where = Where(conditions=(Condition.parse(where),))
        if where not in self._chosen:
            rows = self._sound & where.rows(self.metadata)
            self._chosen = dict([*self._chosen.items(), (where, rows)][-_FILTERS:])
        return self._chosen[where]

    def _hits(
        self,
        vectors: Float[Tensor, "queries width"],
        top: int,
        threshold: float | None,
        where: Where | str | None,
    ) -> list[list[Hit]]:
        top = _at_least_one(top)
        allowed = self.among(where)
        some = None if allowed.all() else torch.from_numpy(allowed)
        scores, rows = nearest(vectors, self.vectors, top, some, self._half)
        found = zip(rows.tolist(), scores.tolist(), strict=True)
        return [self._of_rows(*best, threshold) for best in found]

    def _of_rows(
        self, rows: Sequence[int], scores: Sequence[float], threshold: float | None
    ) -> list[Hit]:
        least = reaching(-math.inf if threshold is None else threshold, self.vectors.dtype)
        return [
            Hit(self._store.picture(row), score, row)
            for row, score in zip(rows, scores, strict=True)
            if score >= least
        ]


def _at_least_one(top: int) -> int:
    if top < 1:
        raise ConfigError(f"top {top} must be at least 1")
    return top
