"""Preprocessing against torchvision's Pillow pipeline, which every published accuracy was measured
with."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from diptych.config import PreprocessConfig
from diptych.errors import ConfigError, ImageError
from diptych.inputs import Preprocess
from diptych.inputs.resize import resize_shortest_and_crop
from tests import goldens
from tests.inputs.pictures import encoded, photo

SIZES = [
    (640, 480),
    (480, 640),
    (500, 375),
    (224, 224),
    (1024, 768),
    (231, 229),
    (97, 300),
    (32, 32),
    (50, 20),
    (300, 1000),
]
CORNERS = [
    (1, 1),
    (1, 40),
    (40, 1),
    (2, 300),
    (3, 7),
    (900, 60),
    (60, 900),
    (250, 1400),
    (1500, 3),
    (223, 2000),
]
MODES = {"bicubic": T.InterpolationMode.BICUBIC, "bilinear": T.InterpolationMode.BILINEAR}


def torchvision_pipeline(config: PreprocessConfig, size: int) -> T.Compose:
    target = int(size / config.crop_share) if config.resize == "shortest" else (size, size)
    return T.Compose(
        [
            T.Resize(target, interpolation=MODES[config.interpolation]),
            T.CenterCrop(size),
            T.ToTensor(),
            T.Normalize(config.mean, config.std),
        ]
    )


def assert_same(ours, theirs, config):
    """Within 1 grey level; 2 levels in at most one value of 10,000, and 0.02 levels on average."""
    levels = (ours - theirs).abs() * 255 * torch.tensor(config.std).view(3, 1, 1)
    assert ours.shape == theirs.shape
    assert levels.max() < 2.01
    assert (levels > 1.01).float().mean() <= 1e-4
    assert levels.mean() < 0.02


@pytest.mark.parametrize("shape", [(640, 480), (97, 300), (3, 7), (1500, 3)], ids=str)
def test_a_crop_of_256_to_224_is_torchvisions(shape):
    config = PreprocessConfig(crop_share=0.875, interpolation="bilinear")
    image = photo(*shape)
    assert_same(Preprocess(config, 224)(image), torchvision_pipeline(config, 224)(image), config)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_crop_keeps_some_and_no_more_than_all(share):
    with pytest.raises(ConfigError, match="crop_share"):
        PreprocessConfig(crop_share=share)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("shape", [*SIZES, *CORNERS], ids=str)
def test_equal_to_torchvision(shape, resize, interpolation):
    config = PreprocessConfig(resize=resize, interpolation=interpolation)
    image = photo(*shape)
    assert_same(Preprocess(config, 224)(image), torchvision_pipeline(config, 224)(image), config)


@pytest.mark.parametrize(
    "path", goldens.files("eva/eva-optim-preprocess.json"), ids=lambda path: path.stem
)
@pytest.mark.parametrize("resize", ["shortest", "longest"])
def test_equal_to_eva_clips(path, resize):
    """EVA-CLIP's evaluation transforms of a picture given by a formula, within 1 grey level as
    above."""
    golden = goldens.read(path)[f"preprocess_{resize}"]
    x, y = np.meshgrid(np.arange(91), np.arange(57))
    levels = np.stack([x * 255 // 90, y * 255 // 56, (7 * x + 13 * y) % 256], axis=-1)
    config = PreprocessConfig(resize=resize)
    ours = Preprocess(config, golden["size"])(Image.fromarray(levels.astype(np.uint8)))
    assert_same(ours, torch.tensor(golden["output"]), config)


@pytest.mark.parametrize("size", [32, 64, 336])
def test_other_sizes(size):
    config = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.4, 0.3))
    image = photo(333, 500, seed=1)
    assert_same(Preprocess(config, size)(image), torchvision_pipeline(config, size)(image), config)


def test_from_a_jpeg_file(tmp_path):
    config = PreprocessConfig()
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo(500, 333), "JPEG", quality=90))
    expected = torchvision_pipeline(config, 224)(Image.open(path))
    preprocess = Preprocess(config, 224)
    for picture in (path, str(path), path.read_bytes(), Image.open(path)):
        assert_same(preprocess(picture), expected, config)


@pytest.mark.parametrize(
    "shape", [(300, 200), (200, 300), (20, 10), (31, 31), (1, 500), (64, 37)], ids=str
)
def test_longest_keeps_the_whole_picture_and_pads(shape):
    config = PreprocessConfig(resize="longest", fill=119)
    image = photo(*shape)
    pixels = Preprocess(config, 64).pixels(image)
    width, height = (max(1, round(side * 64 / max(shape))) for side in shape)
    left, top = (64 - width) // 2, (64 - height) // 2
    inner = pixels[:, top : top + height, left : left + width]
    expected = T.functional.pil_to_tensor(image.resize((width, height), Image.Resampling.BICUBIC))
    assert (inner.int() - expected.int()).abs().max() <= 1
    around = torch.ones(64, 64, dtype=torch.bool)
    around[top : top + height, left : left + width] = False
    assert (pixels[:, around] == 119).all()


def test_a_picture_of_the_right_size_is_not_touched():
    image = photo(64, 64)
    expected = T.functional.pil_to_tensor(image)
    for resize in ("shortest", "squash", "longest"):
        assert torch.equal(Preprocess(PreprocessConfig(resize=resize), 64).pixels(image), expected)


def test_a_strip_takes_no_more_memory_than_its_square():
    # The resized strip would have 224 x 22,400,000 pixels.
    config = PreprocessConfig()
    pixels = Preprocess(config, 224).pixels(torch.full((3, 1, 100_000), 9, dtype=torch.uint8))
    assert (pixels == 9).all()


@pytest.mark.parametrize("shape", [(3, 400, 5), (3, 5, 400), (3, 900, 40), (3, 3, 2000)], ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_strip_is_what_cutting_the_resized_picture_gives(shape, interpolation):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.manual_seed(0))
    (height, width), side = shape[1:], 32
    short = min(height, width)
    size = int(side * height / short), int(side * width / short)
    kind = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    whole = np.array(image.resize(size[::-1], kind[interpolation]))
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    cut = torch.from_numpy(whole[top : top + side, left : left + side]).permute(2, 0, 1)
    found = resize_shortest_and_crop(pixels, side, side, interpolation)
    assert (found.int() - cut.int()).abs().max() <= 1


def test_levels_then_normalised_is_the_call():
    preprocess = Preprocess(PreprocessConfig(), 48)
    images = [photo(80, 60, seed=seed) for seed in range(3)]
    pixels = torch.stack([preprocess.pixels(image) for image in images])
    assert pixels.dtype == torch.uint8
    normalised = preprocess.normalise(pixels)
    assert normalised.dtype == torch.float32
    assert torch.equal(normalised, torch.stack([preprocess(image) for image in images]))
    expected = T.functional.normalize(pixels / 255, preprocess.config.mean, preprocess.config.std)
    torch.testing.assert_close(normalised, expected, rtol=0, atol=2e-6)


def test_it_travels_to_other_processes():
    preprocess = Preprocess(PreprocessConfig(resize="squash"), 32)
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess


def test_a_broken_picture_is_an_image_error():
    with pytest.raises(ImageError):
        Preprocess(PreprocessConfig(), 32)(b"no picture")
