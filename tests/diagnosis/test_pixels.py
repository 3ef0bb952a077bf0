"""What a pipeline does is told by its output: torchvision's and Pillow's in many ways."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode as Mode

from diptych.diagnosis.pixels import measure
from diptych.diagnosis.probes import pictures

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def pipeline(*steps):
    normal = v2.Normalize(MEAN, STD)
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normal])


WAYS = {
    ("shortest", "bicubic"): pipeline(v2.Resize(48, Mode.BICUBIC), v2.CenterCrop(48)),
    ("shortest", "lanczos"): pipeline(v2.Resize(48, Mode.LANCZOS), v2.CenterCrop(48)),
    ("shortest", "nearest"): pipeline(v2.Resize(48, Mode.NEAREST), v2.CenterCrop(48)),
    ("shortest, 0.875 of it", "bilinear"): pipeline(
        v2.Resize(int(48 / 0.875), Mode.BILINEAR), v2.CenterCrop(48)
    ),
    ("squash", "bilinear"): pipeline(v2.Resize((48, 48), Mode.BILINEAR)),
    ("squash", "bicubic, not antialiased"): pipeline(
        v2.ToImage(), v2.Resize((48, 48), Mode.BICUBIC, antialias=False)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_way_to_the_square_and_its_numbers_are_told(way):
    found = measure(WAYS[way])
    assert (found.resize, found.interpolation, found.size, found.known) == (*way, 48, True)
    assert found.mean == pytest.approx(MEAN, abs=1e-5)
    assert found.std == pytest.approx(STD, abs=1e-5)
    for picture in pictures()[:2]:
        assert (found.render(picture) - WAYS[way](picture)).abs().max() < 0.02


def test_margins_have_their_grey():
    pad = v2.Compose([v2.Resize(None, max_size=48), v2.CenterCrop(48)])
    found = measure(pipeline(pad))
    assert (found.resize, found.fill) == ("longest", 0)


def test_a_way_that_is_none_of_these_is_said():
    turned = pipeline(v2.Resize((48, 48)), v2.RandomVerticalFlip(1.0))
    assert not measure(turned).known
