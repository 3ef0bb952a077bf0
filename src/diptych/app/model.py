"""The model of an index, asked by many: one call at a time, in a thread of its own, and what was
asked before isn't computed again."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from diptych.config.alone import need
from diptych.encoder import Encoder, class_vectors
from diptych.inputs.truncation import find_truncated

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")

_TEXTS = 4096
"""Vectors of texts that are kept: 8 MB of 512 numbers each."""


class Recent(Generic[K, V]):
    """The `most` things that were used last, for several threads.

    >>> from diptych.app.model import Recent
    >>> recent = Recent[str, int](most=2)
    >>> for place, name in enumerate("aba" "c"):
    ...     recent.put(name, place)
    >>> recent.get("a"), recent.get("b")
    (2, None)
    """

    def __init__(self, most: int):
        self._most, self._kept, self._lock = most, OrderedDict[K, V](), Lock()

    def get(self, key: K) -> V | None:
        """What was put there; None if it was too long ago."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep it, at the cost of what was used longest ago."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


class Model:
    """An encoder, for the tasks of an event loop."""

    def __init__(self, encoder: Encoder):
        encoder.model.eval()
        self.encoder = encoder
        self.turn = asyncio.Lock()
        """For who looks, when it is his turn, whether it is still wanted."""
        self._texts = Recent[str, Tensor](_TEXTS)
        # A thread of its own: what is typed must not wait for a place among many thumbnails.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, work: Callable[[], R]) -> R:
        """Have the model's thread do it, after what it was asked before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def texts(self, texts: Sequence[str]) -> list[Float[Tensor, " width"]]:
        """Their vectors, in the thread that calls; those that aren't kept together."""
        found = {text: self._texts.get(text) for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        if new:
            for text, vector in zip(new, self._embed(new), strict=True):
                self._texts.put(text, vector)
                found[text] = vector
        return [vector for text in texts if (vector := found[text]) is not None]

    def remark(self, texts: Sequence[str]) -> str:
        """A sentence about texts of which only the beginning counts; empty: all count whole."""
        found = find_truncated(self.encoder.tokenizer, texts)
        return str(found) if found else ""

    def _embed(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """As `Encoder.embed_texts`, but for its warning: who types gets the `remark`."""
        need(self.encoder.config, "text", self.encoder.name)
        return self.encoder.embed_ids([self.encoder.tokenizer.encode(text) for text in texts])

    def labels(
        self, vector: Float[Tensor, " width"], names: Sequence[str], templates: Sequence[str]
    ) -> tuple[list[float], list[float]]:
        """Cosines and probabilities of names for the picture that has this vector."""
        classes = class_vectors(self._embed, names, templates)
        cosines = vector[None] @ classes.T
        shares = self.encoder.scores(cosines, self.encoder.probability)
        return cosines[0].tolist(), shares[0].tolist()
