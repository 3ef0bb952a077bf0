"""Each change of the strong view is torchvision's, and a batch is what its rows are alone."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from diptych.config import StrongConfig
from diptych.errors import ConfigError
from diptych.inputs import strong
from diptych.inputs.strong import StrongView

STRENGTHS = (0.5, 0.9, 1.0, 1.6)
TURNS = (-0.5, -0.1, 0.0, 0.3)


def pixels(rows=4, seed=0):
    torch.manual_seed(seed)
    x = torch.rand(rows, 3, 20, 24)
    x[0, :, :5] = 0.3  # greys have no hue
    return x


@pytest.mark.parametrize(
    ("ours", "theirs", "strengths"),
    [
        (strong._brightness, functional.adjust_brightness, STRENGTHS),
        (strong._contrast, functional.adjust_contrast, STRENGTHS),
        (strong._saturation, functional.adjust_saturation, STRENGTHS),
        (strong._hue, functional.adjust_hue, TURNS),
        (
            lambda x, strength: strong.gaussian_blur(x, strength.flatten() + 1, 3.0),
            lambda x, strength: functional.gaussian_blur(x, [25, 25], [strength + 1]),
            TURNS,
        ),
    ],
    ids=["brightness", "contrast", "saturation", "hue", "blur"],
)
def test_changes_are_torchvisions(ours, theirs, strengths):
    x = pixels()
    changed = ours(x, strength=torch.tensor(strengths).view(-1, 1, 1, 1))
    expected = torch.stack([theirs(row, strength) for row, strength in zip(x, strengths)])
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-5)


def crops_and_draws(config, count=24):
    view, rng = StrongView(config, 32), np.random.default_rng(0)
    picture = torch.randint(
        0, 256, (3, 50, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    crops = torch.stack([view.crop(picture, rng) for _ in range(count)])
    return view, crops, torch.stack([view.draw(rng) for _ in range(count)])


def test_a_batch_is_its_rows():
    view, crops, drawn = crops_and_draws(StrongConfig())
    alone = [view.apply(crop[None], change[None]) for crop, change in zip(crops, drawn)]
    assert torch.equal(view.apply(crops, drawn), torch.cat(alone))


def test_nothing_drawn_changes_nothing():
    view, crops, drawn = crops_and_draws(StrongConfig(jitter=0.0, grey=0.0, blur=0.0))
    assert torch.equal(view.apply(crops, drawn), crops)


def test_grey_pictures_have_equal_channels():
    view, crops, drawn = crops_and_draws(StrongConfig(jitter=0.0, grey=1.0, blur=0.0))
    changed = view.apply(crops, drawn)
    assert torch.equal(changed[:, 0], changed[:, 2])
    assert changed.float().std() > 10


def test_shares_of_what_is_drawn():
    view, rng = StrongView(StrongConfig(), 32), np.random.default_rng(1)
    drawn = torch.stack([view.draw(rng) for _ in range(3000)])
    assert (drawn[:, 4] >= 0).float().mean() == pytest.approx(0.8, abs=0.03)
    assert (drawn[:, 5] > 0).float().mean() == pytest.approx(0.2, abs=0.03)
    assert (drawn[:, 6] > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert len(drawn[:, 4].unique()) == 25
    for column, (low, high) in enumerate([(0.6, 1.4)] * 3 + [(-0.1, 0.1)]):
        assert drawn[:, column].min() >= low
        assert drawn[:, column].max() <= high
        assert drawn[:, column].std() == pytest.approx((high - low) / 12**0.5, rel=0.1)


def test_a_picture_smaller_than_the_blur():
    view = StrongView(StrongConfig(blur=1.0, blur_sigma=(2.0, 2.0)), 4)
    drawn = view.draw(np.random.default_rng(0))[None]
    assert view.apply(torch.full((1, 3, 4, 4), 9, dtype=torch.uint8), drawn).shape == (1, 3, 4, 4)


def test_impossible_settings_are_named():
    with pytest.raises(ConfigError, match="hue"):
        StrongConfig(hue=0.6)
    with pytest.raises(ConfigError, match="flip"):
        StrongConfig(flip=2.0)
