"""Captions to ids, and JPEG bytes to pixels."""

import io
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import open_clip
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.compare import Row, seconds
from benchmarks.towers import captions
from diptych.config import PreprocessConfig, TokenizerConfig
from diptych.inputs import Preprocess, build_tokenizer


def pictures(count: int, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """JPEGs of scikit-learn's two photographs, cut at different places."""
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    generator, found = np.random.default_rng(0), []
    for index in range(count):
        left, top = generator.integers(0, 60, 2)
        cut = photographs[index % 2].crop((left, top, left + 580, top + 360)).resize(size)
        file = io.BytesIO()
        cut.save(file, "JPEG", quality=85)
        found.append(file.getvalue())
    return found


def rows() -> Iterator[Row]:
    texts = captions(5000)
    ours, theirs = build_tokenizer(TokenizerConfig(), 77), open_clip.SimpleTokenizer()
    same = bool((ours(texts, pad_to=77) == theirs(texts)).all())
    mine, other = seconds(lambda: ours(texts), lambda: theirs(texts))
    yield _rate("tokenizer, captions", len(texts), mine, other, f"ids equal: {same}")

    jpegs = pictures(24)
    preprocess = Preprocess(PreprocessConfig(), 224)
    transform = cast(
        Callable[[Image.Image], torch.Tensor], open_clip.image_transform(224, is_train=False)
    )

    def open_and_transform(data: bytes) -> torch.Tensor:
        return transform(Image.open(io.BytesIO(data)))

    gap = max(
        (preprocess(data) - open_and_transform(data)).abs().mean().item() for data in jpegs[:4]
    )
    mine, other = seconds(
        lambda: [preprocess(data) for data in jpegs],
        lambda: [open_and_transform(data) for data in jpegs],
    )
    yield _rate("JPEG 640x480 to 224 pixels", len(jpegs), mine, other, f"mean difference {gap:.1e}")


def _rate(name: str, count: int, mine: float, other: float, check: str) -> Row:
    return Row(
        name=name,
        unit="/s",
        ours=count / mine,
        theirs=count / other,
        higher_is_better=True,
        check=check,
    )
