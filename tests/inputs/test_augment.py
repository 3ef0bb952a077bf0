"""The training crop: a function of its generator, with the distribution that the config states."""

import pickle

import numpy as np
import pytest
import torch
from torchvision import transforms as T

from diptych.config import AugmentConfig
from diptych.inputs import TrainCrop
from diptych.inputs.resize import resize
from tests.inputs.pictures import photo

ALL = AugmentConfig(scale=(0.3, 1.0), flip=0.5, shift=2, noise=5.0)


@pytest.fixture(scope="module")
def pixels():
    return T.functional.pil_to_tensor(photo(120, 80))


def test_the_generator_decides_alone(pixels):
    crop = pickle.loads(pickle.dumps(TrainCrop(ALL, 32)))
    torch.manual_seed(0)
    first = crop(pixels, np.random.default_rng(7))
    torch.manual_seed(1)
    assert torch.equal(crop(pixels, np.random.default_rng(7)), first)
    assert not torch.equal(crop(pixels, np.random.default_rng(8)), first)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    assert first.is_contiguous()


@pytest.mark.parametrize(
    ("height", "width"), [(80, 120), (300, 50), (1, 1), (1, 200), (200, 1), (2, 3), (33, 33)]
)
def test_boxes_lie_inside(height, width):
    crop = TrainCrop(AugmentConfig(scale=(0.08, 1.0)), 32)
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, tall, wide = crop.box(height, width, rng)
        assert tall >= 1
        assert wide >= 1
        assert 0 <= top <= height - tall
        assert 0 <= left <= width - wide


def test_boxes_have_the_stated_areas_and_ratios():
    config = AugmentConfig(scale=(0.2, 0.6), ratio=(0.8, 1.25))
    rng = np.random.default_rng(0)
    boxes = np.array([TrainCrop(config, 32).box(400, 500, rng) for _ in range(2000)])
    areas = boxes[:, 2] * boxes[:, 3] / (400 * 500)
    ratios = boxes[:, 3] / boxes[:, 2]
    assert 0.199 < areas.min() < 0.21
    assert 0.59 < areas.max() < 0.601
    assert abs(areas.mean() - 0.4) < 0.01
    assert 0.795 < ratios.min() < 0.81
    assert 1.23 < ratios.max() < 1.256
    assert abs(np.log(ratios).mean()) < 0.01
    free_rows = boxes[:, 0] / (400 - boxes[:, 2])
    assert abs(free_rows.mean() - 0.5) < 0.02


def test_a_picture_that_no_box_fits_gives_its_centre():
    assert TrainCrop(AugmentConfig(), 32).box(10, 1000, np.random.default_rng(0)) == (
        0,
        493,
        10,
        13,
    )


def test_the_crop_is_the_resized_box(pixels):
    crop = TrainCrop(AugmentConfig(scale=(0.3, 0.5)), 24)
    top, left, height, width = crop.box(80, 120, np.random.default_rng(3))
    expected = resize(
        pixels[:, top : top + height, left : left + width].contiguous(), (24, 24), "bicubic"
    )
    assert torch.equal(crop(pixels, np.random.default_rng(3)), expected)


def test_flip(pixels):
    whole = {"scale": (1.0, 1.0), "ratio": (1.5, 1.5)}
    plain = TrainCrop(AugmentConfig(**whole), 40)(pixels, np.random.default_rng(0))
    flipped = TrainCrop(AugmentConfig(**whole, flip=1.0), 40)(pixels, np.random.default_rng(0))
    assert torch.equal(flipped, plain.flip(2))
    half = TrainCrop(AugmentConfig(**whole, flip=0.5), 40)
    flips = sum(
        torch.equal(half(pixels, np.random.default_rng(seed)), flipped) for seed in range(200)
    )
    assert 70 < flips < 130


def test_shift_moves_and_repeats_the_edge(pixels):
    whole = {"scale": (1.0, 1.0), "ratio": (1.5, 1.5)}
    plain = TrainCrop(AugmentConfig(**whole), 40)(pixels, np.random.default_rng(0))
    padded = torch.nn.functional.pad(plain[None].float(), (3, 3, 3, 3), mode="replicate")[0].to(
        torch.uint8
    )
    seen = set()
    for seed in range(300):
        moved = TrainCrop(AugmentConfig(**whole, shift=3), 40)(pixels, np.random.default_rng(seed))
        places = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if torch.equal(padded[:, y : y + 40, x : x + 40], moved)
        ]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) == 49


def test_noise_has_the_stated_strength():
    grey = torch.full((3, 100, 100), 128, dtype=torch.uint8)
    noisy = TrainCrop(AugmentConfig(noise=6.0), 100)(grey, np.random.default_rng(0)).float()
    assert abs(noisy.mean() - 128) < 0.2
    assert abs(noisy.std() - 6) < 0.2
    white = TrainCrop(AugmentConfig(noise=6.0), 100)(
        torch.full_like(grey, 255), np.random.default_rng(0)
    )
    assert white.min() > 200
