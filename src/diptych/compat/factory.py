"""open_clip's and eva_clip's factory functions.

| option                                  | here                                                 |
| --------------------------------------- | ---------------------------------------------------- |
| model_name                              | a name in any generation's spelling, a JSON file, or |
|                                         | a place: `hf-hub:org/name`, `local-dir:FOLDER`, a    |
|                                         | folder, a file                                       |
| pretrained                              | a place, or a tag; none: random, with a warning      |
| load_weights=False                      | random, without a warning                            |
| require_pretrained                      | an error in place of random weights                  |
| precision                               | of the towers; `amp*` is float32, autocast is yours  |
| device, cache_dir, output_dict          | done                                                 |
| force_image_size, force_patch_dropout   | done                                                 |
| force_quick_gelu, image_mean, image_std | done                                                 |
| image_interpolation, image_resize_mode  | done                                                 |
| force_preprocess_cfg, aug_cfg           | done                                                 |
| pretrained_image, pretrained_text       | paths; so are open_clip's `..._path`                 |
| force_custom_clip, force_custom_text    | `model.text` is the text tower; a file's layout is   |
|                                         | seen from its names                                  |
| pretrained_visual_model, ..._text_model | no meaning, for the same reason                      |
| pretrained_hf                           | no meaning: no tower is fetched by itself            |
| weights_only                            | no meaning: always so                                |
| all others (jit, skip_list, …)          | refused where set                                    |
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torchvision.transforms import Compose  # pyright: ignore[reportMissingTypeStubs]

from diptych.checkpoints import load_model, start_tower
from diptych.compat import places
from diptych.compat.model import OpenClipModel
from diptych.compat.options import refuse
from diptych.compat.pretrained import configured
from diptych.compat.transform import (
    AugmentationCfg,
    Transform,
    in_training,
    preprocess_config,
    transform_of,
    without_size,
)
from diptych.compat.wrapping import wrap
from diptych.config import ClipConfig, TowerConfig
from diptych.encoder.load import device_of
from diptych.errors import ConfigError, RandomWeightsWarning, UnknownNameError
from diptych.models import Clip, Tower, build

T = TypeVar("T", bound=TowerConfig)
R = TypeVar("R")
PRECISIONS = {
    **dict.fromkeys(("fp32", "amp", "amp_bf16", "amp_bfloat16"), torch.float32),
    **dict.fromkeys(("fp16", "pure_fp16"), torch.float16),
    **dict.fromkeys(("bf16", "pure_bf16"), torch.bfloat16),
}


def _maybe_load_weights(function: Callable[..., R]) -> Callable[..., R]:
    """open_clip 3 has `load_weights` third, before `precision`, and open_clip 2 and eva_clip don't:
    a third argument that is True or False is that one."""

    @wraps(function)
    def call(
        model_name: str | Path, pretrained: str | Path | None = None, *given: Any, **options: Any
    ) -> R:
        if given and isinstance(given[0], bool):
            return function(model_name, pretrained, *given[1:], load_weights=given[0], **options)
        return function(model_name, pretrained, *given, **options)

    return call


@_maybe_load_weights
def create_model(
    model_name: str | Path,
    pretrained: str | Path | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    force_custom_clip: bool = False,
    force_custom_text: bool = False,
    force_patch_dropout: float | None = None,
    force_image_size: int | tuple[int, int] | None = None,
    image_mean: tuple[float, float, float] | None = None,
    image_std: tuple[float, float, float] | None = None,
    image_interpolation: Literal["bicubic", "bilinear", "random"] | None = None,
    image_resize_mode: Literal["shortest", "squash", "longest"] | None = None,
    force_preprocess_cfg: Mapping[str, Any] | None = None,
    pretrained_image: str | Path | bool = "",
    pretrained_text: str | Path | bool = "",
    pretrained_image_path: str | Path | None = None,
    pretrained_text_path: str | Path | None = None,
    pretrained_visual_model: str | None = None,
    pretrained_text_model: str | None = None,
    cache_dir: str | Path | None = None,
    skip_list: tuple[str, ...] = (),
    output_dict: bool | None = None,
    weights_only: bool = True,
    load_weights: bool = True,
    require_pretrained: bool = False,
    pretrained_hf: bool = True,
    **others: Any,
) -> OpenClipModel:
    """A model with open_clip's face, in evaluation mode; what each option does stands in the
    module's table.

    A configuration that stands beside weights wins over the one that `model_name` means, and
    AssumptionWarning says in what they differ; a model without weights is a RandomWeightsWarning.
    Raises UnknownNameError for a name that nothing has, CheckpointError for weights that
    can't be read or don't fit, and ConfigError for an option that can't be honoured.
    """
    refuse(others | {"jit": jit, "skip_list": skip_list})
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", str(precision), PRECISIONS)
    changes = {
        "mean": image_mean,
        "std": image_std,
        "interpolation": image_interpolation,
        "resize_mode": image_resize_mode,
    }
    forced = force_preprocess_cfg or {}
    changes |= {name: value for name, value in forced.items() if value is not None}
    source = places.find(configured(model_name), pretrained if load_weights else None, cache_dir)
    if require_pretrained and source.path is None:
        raise ConfigError(f"no weights were given for {model_name}; say pretrained=")
    dtype, size, place = PRECISIONS[precision], _side(force_image_size), device_of(device)
    changed = partial(_changed, preprocess=changes, quick_gelu=force_quick_gelu, size=size)
    if source.path and load_weights:
        config = changed(source.config) if source.config else None
        clip = load_model(source.path, config=config, dtype=dtype, image_size=size).model
        clip.config = changed(clip.config)
    else:
        assert source.config is not None
        clip = _random(changed(source.config), size)
    if force_patch_dropout is not None:
        clip.image.set_patch_dropout(force_patch_dropout)
    image_weights = pretrained_image_path or pretrained_image
    text_weights = pretrained_text_path or pretrained_text
    _start(clip.image, "image", image_weights)
    _start(clip.text, "text", text_weights)
    if load_weights and not (source.path or (image_weights and text_weights)):
        warnings.warn(
            f"no pretrained weights are loaded for {model_name}: it is initialised randomly; say "
            "pretrained=, or load_weights=False if that is meant",
            RandomWeightsWarning,
            stacklevel=2,
        )
    for tower in (clip.image, clip.text):
        tower.to(dtype)
    custom_text = force_custom_text or force_custom_clip
    return wrap(clip.to(place), bool(output_dict), custom_text).eval()


@_maybe_load_weights
def create_model_and_transforms(
    model_name: str | Path,
    pretrained: str | Path | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    *,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None = None,
    **options: Any,
) -> tuple[OpenClipModel, Compose, Transform]:
    """The model, its transform in training (`aug_cfg`: see `AugmentationCfg`) and its transform in
    evaluation: `options` are those of `create_model`.

    >>> from diptych.compat import create_model_and_transforms
    >>> model, _, preprocess = create_model_and_transforms("tiny", load_weights=False)
    >>> preprocess.transforms[1]
    CenterCrop(size=(48, 48))
    """
    order = (precision, device, jit, force_quick_gelu)
    model = create_model(model_name, pretrained, *order, **options)
    config, size = model.config.preprocess, model.config.image.image_size
    return model, in_training(config, size, aug_cfg), transform_of(config, size)


def create_model_from_pretrained(
    model_name: str | Path,
    pretrained: str | Path | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    *,
    return_transform: bool = True,
    **options: Any,
) -> Any:
    """The model and its transform in evaluation, or with `return_transform=False` the model alone;
    without `pretrained`, the first weights known of the model."""
    pretrained = pretrained or places.first_known(str(model_name))
    order = (precision, device, jit, force_quick_gelu)
    model, _, preprocess = create_model_and_transforms(model_name, pretrained, *order, **options)
    return (model, preprocess) if return_transform else model


def _random(config: ClipConfig, image_size: int | None) -> Clip:
    """A fresh model, perhaps for pictures of another size."""
    if image_size is not None:
        config = replace(config, image=replace(config.image, image_size=image_size))
    return build(config)


def _side(size: int | tuple[int, int] | None) -> int | None:
    """Of square pictures. Raises ConfigError for others."""
    if not isinstance(size, tuple):
        return size
    if size[0] != size[1]:
        raise ConfigError(f"force_image_size={size} is no square; the towers take squares alone")
    return size[0]


def _start(tower: Tower[Any], side: Literal["image", "text"], path: str | Path | bool) -> None:
    if path is True:
        raise ConfigError(
            f"pretrained_{side} must be the path of weights; towers aren't fetched by themselves"
        )
    if path:
        start_tower(tower, side, str(path))


def _changed(
    config: ClipConfig, preprocess: dict[str, Any], quick_gelu: bool, size: int | None
) -> ClipConfig:
    side = config.image.image_size if size is None else size
    said = without_size(preprocess, side)
    config = replace(config, preprocess=preprocess_config(said, config.preprocess))
    return with_quick_gelu(config) if quick_gelu else config


def with_quick_gelu(config: ClipConfig) -> ClipConfig:
    """The same model with QuickGELU in both towers, where they leave the activation to choose."""
    return replace(config, image=_quick(config.image), text=_quick(config.text))


def _quick(tower: T) -> T:
    """With QuickGELU, where the configuration leaves the activation to choose."""
    if not any(field.name == "activation" for field in fields(tower)):
        return tower
    return replace(tower, activation="quick_gelu")
