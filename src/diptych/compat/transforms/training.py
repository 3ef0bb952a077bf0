"""Transforms in training, as open_clip's `aug_cfg` says them."""

# torchvision and timm say no types of their own.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import (
    Compose,
    RandomResizedCrop,
)

from diptych.compat.transforms.patches import PatchTransforms
from diptych.compat.transforms.steps import (
    Size,
    Transform,
    color_jitter,
    gray_scale,
    interpolation_of,
    sides,
    to_numbers,
)
from diptych.config import AugmentConfig, PreprocessConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import Picture, Preprocess, decode
from diptych.inputs.augment import crop_of
from diptych.inputs.room import room


@dataclass
class AugmentationCfg:
    """How pictures are changed in training; the fields are open_clip's."""

    scale: tuple[float, float] = (0.9, 1.0)
    """Share of the picture's area that the crop covers."""
    ratio: tuple[float, float] | None = None
    """Width / height of the crop; None: 3/4 to 4/3."""
    color_jitter: Any = None
    """How much brightness, contrast, saturation and hue change; without timm four numbers."""
    re_prob: float | None = None
    """Probability that a rectangle is erased; timm's."""
    re_count: int | None = None
    """Of how many rectangles at the most; timm's."""
    use_timm: bool = False
    """Whether timm's `create_transform` makes the transform."""
    color_jitter_prob: float | None = None
    gray_scale_prob: float | None = None
    naflex: bool = False
    """Whether pictures keep their aspect: the transform is a `PatchTransforms` then, timm's, and so
    is the one in evaluation. It needs `use_timm`."""


@dataclass(frozen=True)
class TrainTransform:
    """open_clip's in training: a random crop, then normalisation.

    Draws from torch's global generator. `preprocess` says size and normalisation.
    """

    preprocess: Preprocess
    augment: AugmentConfig = AugmentConfig(scale=(0.9, 1.0))

    def __call__(self, picture: Picture) -> Float[Tensor, "3 height width"]:
        """The normalised crop; of a model for pictures of their own aspect, its patches."""
        crop = crop_of(self.augment, self.preprocess.config, self.preprocess.size)
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        with room.held():
            square = crop(decode(picture), rng)
        return self.preprocess.normalise(square[None])[0]


def in_training(
    config: PreprocessConfig,
    size: Size,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None,
    interpolation: str | None = None,
) -> Compose | PatchTransforms:
    """The random transform that `aug_cfg` says. `interpolation` `random`: timm draws one of two for
    each picture; other words are `config`'s. Raises ConfigError for what only timm does without
    `use_timm`, for what is done to squares alone where pictures keep their aspect, and
    UnknownNameError for a word that isn't an `AugmentationCfg`'s."""
    cfg = augmentation(aug_cfg)
    if cfg.naflex:
        return in_patches(config, cfg, training=True)
    if config.resize == "native":
        return _natives(cfg, config, sides(size)[0])
    if cfg.use_timm:
        return _timms(cfg, config, size, interpolation)
    for name in ("re_prob", "re_count"):
        if asdict(cfg)[name]:
            raise ConfigError(f"aug_cfg's {name} is timm's alone; set use_timm=True, too")
    augment = _crop(cfg)
    how = interpolation_of(config.interpolation)
    crop = RandomResizedCrop(sides(size), augment.scale, augment.ratio, how)
    jitter = list[Any]()
    if cfg.color_jitter_prob:
        jitter.append(color_jitter(*_four(cfg.color_jitter), p=cfg.color_jitter_prob))
    elif cfg.color_jitter:
        raise ConfigError("aug_cfg's color_jitter needs color_jitter_prob, or use_timm=True")
    if cfg.gray_scale_prob:
        jitter.append(gray_scale(cfg.gray_scale_prob))
    convert, *rest = to_numbers(config)
    height, width = sides(size)
    fused = None
    if not jitter and height == width:
        fused = TrainTransform(Preprocess(config, height), augment)
    return Transform([crop, convert, *jitter, *rest], fused)


def in_patches(config: PreprocessConfig, cfg: AugmentationCfg, training: bool) -> PatchTransforms:
    """Of pictures of their own aspect, by timm. Raises ConfigError without `use_timm`."""
    if not cfg.use_timm:
        raise ConfigError("aug_cfg's naflex is timm's; set use_timm=True, too")
    return PatchTransforms(config, training, _options(cfg) if training else {})


def augmentation(given: Mapping[str, Any] | AugmentationCfg | None) -> AugmentationCfg:
    """An `aug_cfg`. Raises UnknownNameError for a word that isn't an `AugmentationCfg`'s."""
    if isinstance(given, AugmentationCfg):
        return given
    known = [field.name for field in fields(AugmentationCfg)]
    for name in given or {}:
        if name not in known:
            raise UnknownNameError("augmentation option", name, known)
    return AugmentationCfg(**(given or {}))


def _crop(cfg: AugmentationCfg) -> AugmentConfig:
    low, high = cfg.ratio or (3 / 4, 4 / 3)
    return AugmentConfig(scale=(cfg.scale[0], cfg.scale[1]), ratio=(low, high))


def _natives(cfg: AugmentationCfg, config: PreprocessConfig, size: int) -> Compose:
    """Of pictures of their own aspect. Raises ConfigError for all but a crop."""
    for name, value in asdict(cfg).items():
        if value and name not in ("scale", "ratio"):
            raise ConfigError(
                f"aug_cfg's {name} is of squares, and this model's pictures keep their aspect; "
                "say scale and ratio alone"
            )
    made = TrainTransform(Preprocess(config, size), _crop(cfg))
    return Transform([made], made)


def _four(jitter: Any) -> Sequence[float]:
    if not isinstance(jitter, Sequence) or len(jitter) != 4:
        raise ConfigError(
            f"aug_cfg's color_jitter={jitter!r} must be four numbers: how much brightness, "
            "contrast, saturation and hue change"
        )
    return jitter


def _timms(
    cfg: AugmentationCfg, config: PreprocessConfig, size: Size, interpolation: str | None
) -> Compose:
    """By timm's `create_transform`. Raises ConfigError where timm isn't installed."""
    try:
        from timm.data.transforms_factory import create_transform
    except ImportError as error:
        raise ConfigError("use_timm=True needs timm: `pip install diptych[bridges]`") from error
    make: Any = create_transform
    return make(
        (3, *sides(size)),
        is_training=True,
        mean=config.mean,
        std=config.std,
        interpolation=interpolation if interpolation == "random" else config.interpolation,
        **_options(cfg),
    )


def _options(cfg: AugmentationCfg) -> dict[str, Any]:
    """Of timm's `create_transform`."""
    said = {name: value for name, value in asdict(cfg).items() if value is not None}
    for own in ("use_timm", "naflex", "color_jitter_prob", "gray_scale_prob"):
        said.pop(own, None)
    return {"hflip": 0.0, "re_mode": "pixel", "color_jitter": None} | said
