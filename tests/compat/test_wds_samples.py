"""What pipelines of one's own ask of webdataset's samples."""

import io
import json
import pickle
import random

import pytest
from PIL import Image

from diptych.compat.open_clip_train.data import (
    FilterNonEmptyText,
    FilterValidSample,
    JsonCaptionExtractor,
    decode_pil_rgb,
)
from diptych.compat.open_clip_train.wds_samples import pad_caption_weights, weighted_order
from diptych.errors import ConfigError, ImageError

FIELDS = {"a": "  ", "b": " second ", "c": "third", "d": 4}


def members(*names):
    return dict.fromkeys(names, b"")


@pytest.mark.parametrize(
    ("options", "taken", "left_out"),
    [
        ({}, ("txt", "webp"), [("json", "jpg"), ("txt",), ("txt", "ppm")]),
        ({"text_key": "cap;txt"}, ("cap", "jpg"), [("json", "jpg")]),
        ({"json_text_key": "b"}, ("json", "png"), [("txt", "png"), ("json",)]),
        ({"image_key": "ppm;pgm"}, ("txt", "pgm"), [("txt", "jpg")]),
    ],
)
def test_a_sample_has_a_picture_and_a_text(options, taken, left_out):
    valid = pickle.loads(pickle.dumps(FilterValidSample(**options)))
    assert valid(members(*taken))
    assert not any(valid(members(*names)) for names in left_out)


@pytest.mark.parametrize("text", ["", " \n", b" ", None, 1])
def test_a_text_says_something(text):
    says = pickle.loads(pickle.dumps(FilterNonEmptyText()))
    assert not says({"text": text})
    assert says({"text": b"cat"})
    assert not says({})


def test_the_first_field_that_says_something_is_the_caption():
    extract = pickle.loads(pickle.dumps(JsonCaptionExtractor("a;b;c")))
    assert extract(FIELDS) == extract(json.dumps(FIELDS).encode()) == "second"
    assert JsonCaptionExtractor(["absent", "d", "c"])(json.dumps(FIELDS)) == "third"
    assert JsonCaptionExtractor(("absent", "a"))(FIELDS) == ""
    for broken in (b"{", b"\xff", b"[1]", b"null", b"[" * 100_000):
        assert extract(broken) == ""


def test_fields_are_drawn_by_their_weights():
    random.seed(3)
    extract = pickle.loads(pickle.dumps(JsonCaptionExtractor("b;c", [0.7, 0.3])))
    drawn = [extract(FIELDS) for _ in range(2000)]
    assert 0.66 < drawn.count("second") / 2000 < 0.74
    behind = JsonCaptionExtractor("c;a;b", [0.0, 2.0])
    assert {behind(FIELDS) for _ in range(20)} == {"third"}
    orders = {tuple(weighted_order("abcd", [1.0, 0.0, 1.0, 0.0])) for _ in range(50)}
    assert orders == {tuple("acbd"), tuple("cabd")}
    assert pad_caption_weights(None, 2) is None
    for weights in ([0.1, 0.2, 0.3], [-1.0, 2.0], [0.0], [float("nan")], []):
        with pytest.raises(ConfigError, match="weights"):
            JsonCaptionExtractor("a;b", weights)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header():
    Image.new("L", (100, 80), 7).save(file := io.BytesIO(), "PNG")
    data = file.getvalue()
    for limit in (None, 8000):
        found = decode_pil_rgb(data, limit)
        assert (found.mode, found.size, found.getpixel((0, 0))) == ("RGB", (100, 80), (7, 7, 7))
    for refused in (ValueError, ImageError):  # the pixels are cut off: nothing can decode them
        with pytest.raises(refused, match="100 x 80 pixels, more than max_pixels, 7999"):
            decode_pil_rgb(data[:60], 7999)
    for limit in (None, 8000):
        with pytest.raises(ImageError):
            decode_pil_rgb(b"no picture", limit)
