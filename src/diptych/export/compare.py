"""How near an exported model's vectors are to the model's."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.config.model import Side
from diptych.inputs import Tokenizer
from diptych.models import Clip

BATCH = 5
"""Another number of rows than the programs were traced with."""
CAPTIONS = tuple(
    f"a photo of {what}"
    for what in (
        "a dog", "a cat", "a bird", "a horse", "a fish", "a car", "a train", "an airplane",
        "a ship", "a bicycle", "a house", "a bridge", "a street at night", "a mountain in snow",
        "a beach", "a forest", "a flower", "a tree", "food on a plate", "a person's face",
        "people playing football", "a child with a red ball", "a page of text", "a map",
        "two old men who sit on a bench in the park and play chess, while a third one watches",
    )
)  # fmt: skip
"""Texts of several lengths, and what pictures may show."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one tower."""

    side: Side
    rows: int
    least: float
    """The least cosine of a vector with the model's."""
    median: float

    def __str__(self) -> str:
        what = "pictures" if self.side == "image" else "texts"
        return (
            f"{self.side} tower: cosine with the model's vectors at least {self.least:.6f}, median "
            f"{self.median:.6f} ({self.rows} {what})"
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of a model."""

    towers: tuple[Agreement, ...]
    inputs: str
    """What pictures it was compared on."""
    top1: float | None
    """The share of pictures to which both give the same nearest text; None: one tower is alone."""

    @property
    def least(self) -> float:
        """The least cosine of both towers."""
        return min(each.least for each in self.towers)

    def lines(self) -> list[str]:
        """In words."""
        said = [str(each) for each in self.towers]
        if self.top1 is not None:
            said.append(f"the same nearest of {len(CAPTIONS)} texts: {self.top1:.1%} of pictures")
        return [*said, f"compared on {self.inputs}"]

    def record(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def compare(
    model: Clip,
    exported: Clip,
    pixels: Float[Tensor, "images 3 height wide"] | None,
    tokenizer: Tokenizer | None,
    inputs: str,
) -> Comparison:
    """The vectors of both, of pictures and of `CAPTIONS`; None: the model has no such tower.

    The exported model is asked by other batches than it was traced with, and by texts of their own
    lengths, one of them at a time and several together.
    """
    found: dict[Side, tuple[Tensor, Tensor]] = {}
    with torch.inference_mode():
        if pixels is not None:
            batches = pixels.split(BATCH)
            found["image"] = (
                _joined(model.encode_image(part, normalize=True) for part in batches),
                _joined(exported.encode_image(part, normalize=True) for part in batches),
            )
        if tokenizer is not None:
            rows = [tokenizer.encode(text) for text in CAPTIONS]
            parts = [tokenizer.pad(rows[:1]), tokenizer.pad(rows[1:])]
            found["text"] = (_texts(model, parts), _texts(exported, parts))
    towers = tuple(_agreement(side, *both) for side, both in found.items())
    top1 = None
    if len(found) == 2:
        (images, others), (texts, words) = found["image"], found["text"]
        same = (images @ texts.T).argmax(1) == (others @ words.T).argmax(1)
        top1 = same.float().mean().item()
    return Comparison(towers=towers, inputs=inputs, top1=top1)


def _texts(model: Clip, parts: Iterable[Tensor]) -> Tensor:
    return _joined(model.encode_text(ids, normalize=True) for ids in parts)


def _joined(vectors: Iterable[Tensor]) -> Float[Tensor, "rows embed_dim"]:
    return torch.cat(list(vectors)).float()


def _agreement(side: Side, ours: Tensor, theirs: Tensor) -> Agreement:
    cosines = torch.nn.functional.cosine_similarity(ours.double(), theirs.double())
    cosines = cosines.nan_to_num(-1.0)  # numbers that are none agree with nothing
    return Agreement(
        side=side, rows=len(cosines), least=cosines.min().item(), median=cosines.median().item()
    )
