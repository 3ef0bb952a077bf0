"""What a run sees of each source of a mixture, said before it starts."""

import math
from dataclasses import dataclass

from diptych.data.order import Order
from diptych.data.source import Source
from diptych.errors import ConfigError

_FAR = 50
"""How many times less often than the whole a source has to be met to be called starved; passes over
a source from which on it is said that it is repeated."""


def mixture_of(source: Source, order: Order, steps: int) -> list["MixturePart"]:
    """What a run of `steps` sees of each source; of one that isn't a mixture, nothing. Raises
    ConfigError where a source gives no sample at all.

    >>> from diptych.config import DataConfig
    >>> from diptych.data import Order, open_source
    >>> from diptych.data.mixture import mixture_of
    >>> source = open_source(DataConfig(path="synthetic:60::synthetic:20", weights=(1.0, 3.0)))
    >>> order = Order((60, 20), source.weights, batch_size=8, seed=0)
    >>> parts = mixture_of(source, order, steps=10)
    >>> str(parts[1])
    'source 2, synthetic:20: 20 samples, 75 % of every batch (6 of 8), 3 epochs in 10 steps'
    """
    if len(order.sizes) == 1:
        return []
    found, rows = list[MixturePart](), order.taken(steps)
    for number, name in enumerate(source.names):
        found.append(
            MixturePart(
                name=f"source {number + 1}, {name}",
                size=order.sizes[number],
                share=order.weights[number] / math.fsum(order.weights),
                seen=int(rows[number]),
                order=order,
                steps=steps,
            )
        )
    if empty := next((part for part in found if not part.seen), None):
        raise ConfigError(
            f"{empty.name} has a share of {empty.share:.2g} in the mixture, and so gives no sample "
            f"in {steps:,} steps of {order.batch_size:,}; give it at least "
            f"{1 / (steps * order.batch_size):.2g} of the sum (--data.weights, --data.upsample), "
            "or leave it out of --data.path"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """What a run sees of a source. As a text, a line for people."""

    name: str
    size: int
    """Samples that it has."""
    share: float
    """Of every batch."""
    seen: int
    """Samples that are taken of it in the whole run, however often each."""
    order: Order
    steps: int

    def __str__(self) -> str:
        batch = self.order.batch_size
        rows = round(batch * self.share, 6)
        low, high = math.floor(rows), math.ceil(rows)
        each = f"{low:,}" if low == high else f"{low:,} or {high:,}"
        drawn = "drawn at random, as many as " if self.order.resample else ""
        return (
            f"{self.name}: {self.size:,} samples, {100 * self.share:.3g} % of every batch "
            f"({each} of {batch:,}), {drawn}{self._epochs:,.3g} epochs in {self.steps:,} steps"
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What may not be meant: it is starved, or repeated very often."""
        every = sum(self.order.sizes)
        of_samples = self.size / every
        shares = 100 * self.share, 100 * of_samples
        mixed = f"{shares[0]:.2g} % of every batch, and {shares[1]:.2g} % of all samples"
        if self.share * every < max(1, self.size / _FAR):
            return (
                f"{self.name} is starved: it is {mixed}, so {self.seen:,} of its {self.size:,} "
                f"samples are seen in {self.steps:,} steps; a larger share (--data.weights, "
                "--data.upsample) shows more of them",
            )
        if self._epochs > _FAR and self.share > 2 * of_samples:
            return (
                f"{self.name} is repeated: it is {mixed}, so each of its {self.size:,} samples is "
                f"seen {self._epochs:,.0f} times in {self.steps:,} steps; a smaller share "
                "(--data.weights, --data.upsample) repeats it less",
            )
        return ()

    @property
    def _epochs(self) -> float:
        return self.seen / self.size
