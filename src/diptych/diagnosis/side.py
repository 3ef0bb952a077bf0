"""One of two loads that are compared, measured."""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from diptych.diagnosis.load import Load
from diptych.diagnosis.pixels import Pixels, measure
from diptych.diagnosis.setting import Setting, actual, lowest, told

_ENOUGH = {torch.float32: 5e-6}
"""One minus the cosine from which on vectors differ, by precision."""
_ENOUGH_HALF = 2e-4


class Side:
    """One of the two loads, measured."""

    def __init__(self, load: Load, shown: Sequence[Image.Image], texts: list[str]):
        self.load, self.shown = load, shown
        self.how = measure(load.pixels)
        given = torch.stack([load.pixels(picture).float() for picture in shown])
        ids = load.ids(texts)
        self.setting = Setting(
            config=load.config, weights=load.weights, pixels=given, ids=ids, dtype=load.dtype
        )
        self.enough = _ENOUGH.get(load.dtype, _ENOUGH_HALF)
        self.vectors = actual(load, self.setting)
        self.setting, self.ours = told(self.setting, self.vectors, self.enough)
        """`ours`: as our towers compute the same; None: they refuse."""

    def rendered(self, how: Pixels) -> Tensor:
        """The pictures as another way makes pixels of them."""
        return torch.stack([how.render(picture) for picture in self.shown])

    def remarks(self) -> Iterator[str]:
        """What a user of this load should know."""
        name = self.load.name
        yield from (f"{name}: {remark}" for remark in self.load.remarks)
        again = actual(self.load, self.setting)
        if not all(map(torch.equal, again, self.vectors)):
            yield (
                f"{name}: the same inputs give other vectors each time, as in training mode: call "
                ".eval()"
            )
        if not all(bool(each.isfinite().all()) for each in self.vectors):
            precision = name_of(self.load.dtype)
            yield f"{name}: some vectors hold numbers that aren't finite in {precision}"
        if self.ours is not None and 1 - min(lowest(self.ours, self.vectors)) > self.enough:
            yield (
                f"{name}: with the same weights and inputs Diptych's towers give other vectors, so "
                "its code or settings do something that Diptych doesn't know"
            )


def name_of(dtype: torch.dtype) -> str:
    """`float16`, not `torch.float16`."""
    return str(dtype).removeprefix("torch.")
