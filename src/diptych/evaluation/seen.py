"""Where a model sees the classes that it mixes up: heat maps of a result's surest mistakes, which
reports draw."""

import base64
import io
import warnings
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from diptych.data import Source
from diptych.datasets import Dataset
from diptych.encoder import Encoder, FeatureExtractor, prompts
from diptych.errors import ConfigError, DataWarning

_SHOWN = 6
_SIDE = 144
"""Of the stored squares, in pixels."""


def with_maps(
    mistakes: Sequence[dict[str, Any]],
    rows: Sequence[int],
    dataset: Dataset,
    extractor: FeatureExtractor,
) -> tuple[dict[str, Any], ...]:
    """The mistakes, the first six that can be read with a `square`, the JPEG (base64) of what the
    tower sees, and `maps`: levels [rows][columns], 0 to 255 from the lowest number to the highest,
    of the true class's text and of that of the class it was taken for (`Encoder.explain`).

    `rows` are the pictures' in the dataset's source. Where the tower has no maps, nothing is added,
    and a DataWarning says why.
    """
    encoder = extractor.encoder
    shown = Encoder(encoder.model, encoder.tokenizer, extractor.preprocess, name=encoder.name)
    places = [place for place, each in enumerate(mistakes) if each["jpeg"]][:_SHOWN]
    found = [dict(each) for each in mistakes]
    try:
        for place in places:
            added = _seen(shown, dataset, dataset.source, rows[place], found[place])
            found[place] |= added
    except ConfigError as error:
        warnings.warn(f"there are no heat maps of {encoder.name}: {error}", DataWarning, 2)
    return tuple(found)


def _seen(
    encoder: Encoder, dataset: Dataset, source: Source, row: int, mistake: dict[str, Any]
) -> dict[str, Any]:
    image = source[row].image
    texts = [_text(dataset, mistake["true"]), _text(dataset, mistake["taken_for"])]
    maps = encoder.explain(image, texts)
    levels = encoder.preprocess.seen(image).permute(1, 2, 0).numpy()
    square = Image.fromarray(levels)
    square.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    square.save(stream, "JPEG", quality=85)
    jpeg = base64.b64encode(stream.getvalue()).decode()
    return {"square": jpeg, "maps": [_levels(each) for each in maps]}


def _text(dataset: Dataset, name: str) -> str:
    """The first of the class's prompts."""
    if dataset.class_prompts:
        return dataset.class_prompts[dataset.class_names.index(name)][0]
    [text] = prompts([name], dataset.templates[:1])
    return text


def _levels(numbers: Float[Tensor, "rows columns"]) -> list[list[int]]:
    low, high = numbers.min(), numbers.max()
    return ((numbers - low) / (high - low).clamp(min=1e-12) * 255).round().int().tolist()
