"""Transforms beside open_clip's: the same steps, the same tensors, also after they are edited."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from PIL import Image

from diptych import compat
from diptych.compat import transform as ours
from diptych.errors import ConfigError, UnknownNameError
from tests.compat.peers import ours_of

open_clip = pytest.importorskip("open_clip")
LEVEL = 2 / 255 / 0.26  # two grey levels of 255, divided by the deviation
MODES = ("shortest", "squash", "longest")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((60, 95), (95, 60), (30, 41))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def kinds(transform) -> list[str]:
    return [type(step).__name__ for step in transform.transforms]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [40, (40, 40), (32, 48)])
def test_steps_and_tensors_are_open_clips(mode, size, pictures):
    # Of pictures that aren't square, open_clip resizes the shorter side bicubically always.
    how = "bicubic" if size == (32, 48) else "bilinear"
    options = {"resize_mode": mode, "interpolation": how, "fill_color": 7, "mean": 0.4}
    mine = compat.image_transform(size, False, **options)
    theirs = open_clip.image_transform(size, False, **options)
    assert isinstance(mine, T.Compose)
    assert kinds(mine) == kinds(theirs)
    for step in mine.transforms, theirs.transforms:
        assert step[-1].mean == (0.4, 0.4, 0.4)
    for picture in pictures:
        torch.testing.assert_close(mine(picture), theirs(picture), atol=LEVEL, rtol=0)
        # One by one, Pillow and torchvision compute: not a level apart.
        single = ours.Transform(mine.transforms)
        torch.testing.assert_close(single(picture), theirs(picture), atol=1e-6, rtol=0)


def test_edited_steps_are_what_is_done(pictures):
    mine, theirs = compat.image_transform(40, False), open_clip.image_transform(40, False)
    before = mine(pictures[0])
    for transform in mine, theirs:
        transform.transforms[0] = T.Resize(20)
        transform.transforms[1] = T.CenterCrop(20)
    torch.testing.assert_close(mine(pictures[0]), theirs(pictures[0]))
    assert mine(pictures[0]).shape == (3, 20, 20)
    mine = compat.image_transform(40, False)
    mine.transforms[-1].mean = (0.0, 0.0, 0.0)  # in place
    changed = mine(pictures[0]) - before
    std = torch.tensor(compat.OPENAI_DATASET_STD)
    expected = (torch.tensor(compat.OPENAI_DATASET_MEAN) / std)[:, None, None]
    torch.testing.assert_close(changed, expected.expand_as(changed), atol=LEVEL, rtol=0)
    del mine.transforms[-1]
    assert 0 <= mine(pictures[0]).min() <= mine(pictures[0]).max() <= 1
    levels = np.asarray(pictures[0])
    torch.testing.assert_close(mine(levels), mine(pictures[0]))  # any form of a picture


def test_transforms_are_pickled_and_copied_whole(pictures):
    made = compat.image_transform(40, False)
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert torch.equal(other(pictures[0]), made(pictures[0]))


@pytest.mark.filterwarnings("ignore:Unused augmentation:UserWarning")
def test_colours_are_drawn_as_open_clip_draws_them(pictures, monkeypatch):
    # Not seeded: what checks types in tests draws from `random`, too.
    monkeypatch.setattr(random, "random", lambda: 0.3)
    jitter = {"color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.8}
    jitter |= {"scale": (0.5, 1.0), "gray_scale_prob": 0.2}
    drawn = []
    for package in compat, open_clip:
        torch.manual_seed(0)
        drawn.append(package.image_transform(40, True, aug_cfg=jitter)(pictures[0]))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0][0], drawn[0][2])  # not grey


def test_empty_words_are_those_by_default(pictures):
    made = compat.image_transform(40, False, resize_mode="", interpolation="")
    torch.testing.assert_close(made(pictures[0]), compat.image_transform(40, False)(pictures[0]))


def test_float_tensors_pass_the_steps(pictures):
    batch = torch.rand(2, 3, 60, 95)
    mine, theirs = compat.image_transform(40, False), open_clip.image_transform(40, False)
    torch.testing.assert_close(mine(batch), theirs(batch))


def test_training_crops_colours_and_timm(pictures):
    whole = compat.AugmentationCfg(scale=(1.0, 1.0), ratio=(95 / 60, 95 / 60))
    crop = compat.image_transform(40, True, aug_cfg=whole)
    squash = compat.image_transform(40, False, resize_mode="squash")
    torch.testing.assert_close(crop(pictures[0]), squash(pictures[0]))
    grey = {"scale": (0.5, 1.0), "gray_scale_prob": 1.0}
    grey = compat.image_transform(40, True, mean=0.0, std=1.0, aug_cfg=grey)(pictures[0])
    assert torch.equal(grey[0], grey[2])
    jitter = {"color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.8}
    jitter |= {"gray_scale_prob": 0.2}
    with pytest.warns(UserWarning, match="Unused augmentation"):  # though it uses them
        theirs = open_clip.image_transform(40, True, aug_cfg=jitter)
    assert kinds(compat.image_transform(40, True, aug_cfg=jitter)) == kinds(theirs)
    assert isinstance(compat.image_transform(40, False).transforms[-2], T.ToTensor)
    timm = {"use_timm": True, "re_prob": 0.5}
    mine = compat.image_transform(40, True, aug_cfg=timm)
    assert kinds(mine) == kinds(open_clip.image_transform(40, True, aug_cfg=timm))
    drawn = compat.image_transform(40, True, interpolation="random", aug_cfg=timm)
    assert len(drawn.transforms[0].interpolation) == 2
    assert kinds(compat.image_transform((32, 48), True))[0] == "RandomResizedCrop"


def test_a_models_preprocessing_is_asked_and_said(pictures):
    model, train, preprocess = compat.create_model_and_transforms(
        "tiny",
        load_weights=False,
        force_preprocess_cfg={"size": 48, "mean": (0.1, 0.2, 0.3), "fill_color": 9, "std": None},
        image_resize_mode="longest",
        aug_cfg={"scale": (0.2, 0.3)},
    )
    assert train.fused.augment.scale == (0.2, 0.3)
    assert kinds(preprocess)[:2] == ["ResizeKeepRatio", "CenterCropOrPad"]
    said = compat.get_model_preprocess_cfg(model)
    cfg = compat.PreprocessCfg(**said)
    assert (cfg.input_size, cfg.mean, cfg.fill_color) == ((3, 48, 48), (0.1, 0.2, 0.3), 9)
    again = compat.image_transform_v2(cfg, is_train=False)
    assert torch.equal(again(pictures[0]), preprocess(pictures[0]))
    compat.set_model_preprocess_cfg(model, {"std": (0.5, 0.5, 0.5), "resize_mode": "squash"})
    assert compat.get_model_preprocess_cfg(model) == said | {
        "std": (0.5, 0.5, 0.5),
        "resize_mode": "squash",
    }
    assert model.config.preprocess.resize == "squash"
    expected = {"context_length": 77, "vocab_size": 49408}
    assert compat.get_model_tokenize_cfg(ours_of("vit")) == expected


def test_cfgs_are_merged_as_open_clip_does():
    base, overlay = {"size": 32, "other": 1}, {"mean": None, "std": (1, 1, 1), "more": 2}
    for theirs in (base, open_clip.transform.PreprocessCfg(size=5)):
        mine = ours.PreprocessCfg(size=5) if theirs is not base else base
        found = ours.merge_preprocess_dict(mine, overlay)
        assert found == open_clip.transform.merge_preprocess_dict(theirs, overlay)
        assert found == ours.merge_preprocess_kwargs(mine, **overlay)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: compat.image_transform(32, False, resize_mode="middle"), ConfigError, "middle"),
        (lambda: compat.image_transform(32, True, aug_cfg={"flip": 1}), UnknownNameError, "flip"),
        (lambda: compat.image_transform(32, True, aug_cfg={"re_prob": 0.1}), ConfigError, "timm"),
        (
            lambda: compat.image_transform(32, True, aug_cfg={"color_jitter": 0.4}),
            ConfigError,
            "color_jitter_prob",
        ),
        (lambda: compat.PreprocessCfg(mode="L"), ConfigError, "mode='L'"),
        (
            lambda: compat.set_model_preprocess_cfg(ours_of("vit"), {"size": 48}),
            ConfigError,
            "size=48 isn't the model's, 32; say force_image_size",
        ),
        (
            lambda: compat.create_model(
                "tiny", load_weights=False, force_preprocess_cfg={"crop": 1}
            ),
            UnknownNameError,
            "crop",
        ),
    ],
)
def test_what_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()
