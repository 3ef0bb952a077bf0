"""What a model predicts, picture by picture: how confident it is, and its most confident errors."""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from diptych.cells import csv_rows
from diptych.data import Source
from diptych.durable import write_file
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

    def of_samples(self, keys: Sequence[str], names: Sequence[str]) -> "SamplePredictions":
        """In words: `keys` name the pictures, `names` the classes."""
        true: list[int] = self.labels.tolist()
        predicted: list[int] = self.predicted.tolist()
        return SamplePredictions(
            keys=tuple(keys),
            true=tuple(names[label] for label in true),
            predicted=tuple(names[label] for label in predicted),
            probability=tuple(self.confidence.tolist()),
        )

    def most_confident_errors(self, count: int) -> list[int]:
        """Places of the wrong predictions with the highest confidence, the highest first."""
        wrong = (self.predicted != self.labels).nonzero()[:, 0]
        return wrong[self.confidence[wrong].argsort(descending=True, stable=True)][:count].tolist()


@dataclass(frozen=True, kw_only=True)
class SamplePredictions:
    """What was predicted of each picture, in words, for tables and people.

    >>> import tempfile
    >>> from diptych.evaluation.predictions import SamplePredictions
    >>> found = SamplePredictions(
    ...     keys=("a/1.jpg",), true=("cat",), predicted=("dog",), probability=(0.75,)
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(found.save(f"{folder}/predictions.csv").read_text(), end="")
    key,true,predicted,probability
    a/1.jpg,cat,dog,0.75
    """

    keys: tuple[str, ...]
    """See `name_of`."""
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    probability: tuple[float, ...]
    """Of the predicted class."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a CSV file, whole or not at all. Raises OSError."""

        def write(target: Path) -> None:
            # Names of files that aren't Unicode come as surrogates, and go as the bytes they were.
            with open(target, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                rows = csv_rows(file)
                rows.writerow(("key", "true", "predicted", "probability"))
                shares = (f"{share:.6g}" for share in self.probability)
                rows.writerows(zip(self.keys, self.true, self.predicted, shares, strict=True))

        return write_file(Path(path), write)


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
    confidence, predicted = list[Tensor](), list[Tensor]()
    for tile in tiles:
        # The same scores, and the same winner of equal ones, as in `zero_shot`: a softmax may round
        # two scores to one probability.
        scores = tile.float() @ classes.float().T
        best = scores.argmax(1, keepdim=True)
        confidence.append((scale * scores).softmax(1).gather(1, best)[:, 0])
        predicted.append(best[:, 0])
    return Predictions(
        labels=labels, predicted=torch.cat(predicted), confidence=torch.cat(confidence)
    )


def name_of(source: Source, row: int) -> str:
    """What to call a sample, so that its picture is found: the path of the picture's file, or its
    key in a shard, `SHARD.tar/KEY`, or in a table that holds the picture.

    >>> from diptych.config import DataConfig
    >>> from diptych.data import open_source
    >>> name_of(open_source(DataConfig(path="synthetic:10")), 3)
    'synthetic/3'
    """
    file, key = source.where(row)
    last = source.files(row)[-1]
    return last if last != file or file.endswith(key) else f"{file}/{key}"


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
