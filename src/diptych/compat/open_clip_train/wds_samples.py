"""What pipelines of one's own ask of webdataset's samples: which have a picture and a text, the
text in a JSON, the picture.

https://github.com/mlfoundations/open_clip, src/open_clip_train/data.py
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from diptych.errors import ConfigError, ImageError
from diptych.inputs import decode
from diptych.inputs.header import read_size

PICTURES = "jpg;png;jpeg;webp"
"""Members that are a sample's picture: the first of them that it has."""


class TooManyPixelsError(ImageError, ValueError):
    """A picture above a limit of one's own; open_clip's pipelines expect ValueError."""


class FilterValidSample:
    """Whether a sample has a picture and a text: one of the members `image_key`, and one of
    `text_key`, or with `json_text_key` its `json`. `;` stands between alternatives.

    >>> from diptych.compat.open_clip_train.data import FilterValidSample
    >>> FilterValidSample("txt;caption")({"caption": b"a cat", "jpg": b"..."})
    True
    """

    def __init__(
        self, text_key: str = "txt", json_text_key: str | None = None, image_key: str = PICTURES
    ):
        self.images = _alternatives(image_key)
        self.texts = ["json"] if json_text_key else _alternatives(text_key)

    def __call__(self, sample: Mapping[str, Any]) -> bool:
        return all(any(key in sample for key in keys) for keys in (self.images, self.texts))


def filter_no_caption_or_no_image(sample: Mapping[str, Any]) -> bool:
    """Whether a sample has a `txt` and a picture.

    >>> from diptych.compat.open_clip_train.data import filter_no_caption_or_no_image
    >>> filter_no_caption_or_no_image({"txt": b"a cat", "webp": b"..."})
    True
    """
    return FilterValidSample()(sample)


class FilterNonEmptyText:
    """Whether a sample's `text` says anything.

    >>> from diptych.compat.open_clip_train.data import FilterNonEmptyText
    >>> FilterNonEmptyText()({"text": "a cat"}), FilterNonEmptyText()({"text": b" "})
    (True, False)
    """

    def __call__(self, sample: Mapping[str, Any]) -> bool:
        text = sample.get("text")
        return isinstance(text, str | bytes) and bool(text.strip())


class JsonCaptionExtractor:
    """The text in a JSON, parsed or not: the first of the fields `caption_key` that is one and
    isn't blank, without blanks around it; "" where none is.

    `sample_probs` are weights of the fields, in their order: the fields are then tried in an order
    that is drawn by them. A field of weight 0, or without one, comes behind all others. The draws
    are those of Python's `random`. Raises ConfigError for weights that don't fit.

    >>> from diptych.compat.open_clip_train.data import JsonCaptionExtractor
    >>> JsonCaptionExtractor("long;short")(b'{"long": "", "short": "a cat"}')
    'a cat'
    >>> extractor = JsonCaptionExtractor(["long", "short"], sample_probs=[0.0, 1.0])
    >>> extractor({"long": "a cat on a mat", "short": "a cat"})
    'a cat'
    """

    def __init__(
        self, caption_key: str | Sequence[str], sample_probs: Sequence[float] | None = None
    ):
        listed = isinstance(caption_key, str)
        self.keys = _alternatives(caption_key) if listed else list(caption_key)
        self.weights = pad_caption_weights(sample_probs, len(self.keys))

    def __call__(self, metadata: Mapping[str, Any] | str | bytes) -> str:
        fields = metadata if isinstance(metadata, Mapping) else _parsed(metadata)
        keys = self.keys if self.weights is None else weighted_order(self.keys, self.weights)
        found = (fields.get(key) for key in keys)
        texts = (value.strip() for value in found if isinstance(value, str))
        return next(filter(None, texts), "")


def pad_caption_weights(weights: Sequence[float] | None, count: int) -> list[float] | None:
    """A weight for each of `count` fields, 0 for those that got none; None stays. Raises
    ConfigError for more of them, for negative ones, and where none is above 0.

    >>> from diptych.compat.open_clip_train.wds_samples import pad_caption_weights
    >>> pad_caption_weights([0.7], 3)
    [0.7, 0.0, 0.0]
    """
    if weights is None:
        return None
    if len(weights) > count:
        raise ConfigError(f"{len(weights)} weights are too many for {count} captions of a sample")
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ConfigError(f"weights of captions are 0 or more, one above 0, and not {weights}")
    return [*weights, *[0.0] * (count - len(weights))]


def weighted_order(keys: Sequence[str], weights: Sequence[float]) -> list[str]:
    """All keys in an order that is drawn: the first by its share of the weights, the next by its
    share of the others' (Efraimidis and Spirakis 2006); those of weight 0 last, as they stand."""
    # Of clocks that ring at random, each at a rate, one is first as often as its rate is of all.
    rings = [random.expovariate(weight) if weight else math.inf for weight in weights]
    return [key for _, key in sorted(zip(rings, keys, strict=True), key=lambda pair: pair[0])]


def decode_pil_rgb(data: bytes, max_pixels: int | None = None) -> Image.Image:
    """A picture of a file's bytes, RGB and upright. Raises ImageError for what is no picture, and
    for one of more pixels than `max_pixels`, before they are decoded; that one is a ValueError.

    >>> import io
    >>> from PIL import Image
    >>> from diptych.compat.open_clip_train.data import decode_pil_rgb
    >>> Image.new("L", (64, 48)).save(file := io.BytesIO(), "PNG")
    >>> decode_pil_rgb(file.getvalue(), max_pixels=4096)
    <PIL.Image.Image image mode=RGB size=64x48 at ...>
    """
    if max_pixels is not None:
        width, height = read_size(data)
        if width * height > max_pixels:
            raise TooManyPixelsError(
                f"a picture has {width} x {height} pixels, more than max_pixels, {max_pixels}"
            )
    return Image.fromarray(decode(data).permute(1, 2, 0).numpy())


def _alternatives(keys: str) -> list[str]:
    return keys.split(";")


def _parsed(text: str | bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # as good as one without the fields
        return {}
    return found if isinstance(found, dict) else {}
