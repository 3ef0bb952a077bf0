"""What a model predicts, picture by picture: how confident it is, and its most confident errors."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from diptych.data import Source
from diptych.errors import DataError
from diptych.evaluation.metrics import calibration
from diptych.inputs import decode

_TILE = 2**24
"""Scores held at a time: 64 MB of float32."""
_SIDE = 96
"""Of a thumbnail, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The most probable class of each picture, and its probability: softmax of the model's scale
    times the cosines."""

    labels: Int[Tensor, " pictures"]
    predicted: Int[Tensor, " pictures"]
    confidence: Float[Tensor, " pictures"]

    def calibration(self) -> dict[str, Any]:
        """How well confidence foretells being correct, as plain JSON; None for an empty bin."""
        found = calibration(self.confidence, self.predicted == self.labels)
        return {
            "error": found.error,
            "counts": found.counts.tolist(),
            "accuracy": _finite(found.accuracy),
            "confidence": _finite(found.confidence),
        }

    def most_confident_errors(self, count: int) -> list[int]:
        """Places of the wrong predictions with the highest confidence, the highest first."""
        wrong = (self.predicted != self.labels).nonzero()[:, 0]
        return wrong[self.confidence[wrong].argsort(descending=True, stable=True)][:count].tolist()


def predict(
    images: Float[Tensor, "pictures width"],
    labels: Int[Tensor, " pictures"],
    classes: Float[Tensor, "classes width"],
    scale: float,
) -> Predictions:
    """Of unit vectors of pictures and classes; a tile of the scores at a time.

    >>> import torch
    >>> from diptych.evaluation.predictions import predict
    >>> found = predict(torch.eye(2), torch.tensor([0, 0]), torch.eye(2), 100.0)
    >>> found.predicted.tolist(), found.most_confident_errors(5), found.calibration()["error"]
    ([0, 1], [1], 0.5)
    """
    tiles = images.split(max(1, _TILE // len(classes)))
    found = [(scale * tile.float() @ classes.float().T).softmax(1).max(1) for tile in tiles]
    confidence, predicted = (torch.cat(parts) for parts in zip(*found))
    return Predictions(labels=labels, predicted=predicted, confidence=confidence)


def thumbnails(source: Source, rows: Sequence[int]) -> list[str]:
    """JPEG pictures of these samples, at most 96 pixels wide and high, in base64; empty for one
    that can't be read."""
    return [_thumbnail(source, row) for row in rows]


def _thumbnail(source: Source, row: int) -> str:
    try:
        levels = decode(source[row].image)
    except (DataError, OSError):
        return ""
    picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
    picture.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


def _finite(values: Float[Tensor, " bins"]) -> list[float | None]:
    """JSON has no "not a number"."""
    return [value if value == value else None for value in values.tolist()]
