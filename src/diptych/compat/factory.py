"""open_clip's and eva_clip's factory functions.

| option                                  | here                                                |
| --------------------------------------- | --------------------------------------------------- |
| model_name                              | a name in any generation's spelling, or a JSON file |
| pretrained                              | a file, a folder, a tag (`eva_clip`); none: random  |
| precision                               | of the towers; `amp*` is float32, autocast is yours |
| force_image_size, force_patch_dropout   | done                                                |
| force_quick_gelu, image_mean, image_std | done                                                |
| image_interpolation, image_resize_mode  | done                                                |
| pretrained_image, pretrained_text       | paths; so are open_clip's `..._path`                |
| force_custom_clip, force_custom_text    | no meaning: its layout is seen from a file's names   |
| pretrained_visual_model, ..._text_model | no meaning, for the same reason                     |
| weights_only                            | no meaning: always so                               |
| jit, output_dict, cache_dir, skip_list  | refused where set                                   |
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from diptych import pretrained as published
from diptych.checkpoints import load_model, start_tower
from diptych.checkpoints.describe import read_config
from diptych.compat.model import OpenClipModel
from diptych.compat.transforms import TrainTransform
from diptych.config import ClipConfig, TowerConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import Preprocess
from diptych.models import Tower, build

T = TypeVar("T", bound=TowerConfig)
PRECISIONS = {
    **dict.fromkeys(("fp32", "amp", "amp_bf16", "amp_bfloat16"), torch.float32),
    **dict.fromkeys(("fp16", "pure_fp16"), torch.float16),
    **dict.fromkeys(("bf16", "pure_bf16"), torch.bfloat16),
}


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
    force_image_size: int | None = None,
    image_mean: tuple[float, float, float] | None = None,
    image_std: tuple[float, float, float] | None = None,
    image_interpolation: Literal["bicubic", "bilinear"] | None = None,
    image_resize_mode: Literal["shortest", "squash", "longest"] | None = None,
    pretrained_image: str | Path | bool = "",
    pretrained_text: str | Path | bool = "",
    pretrained_image_path: str | Path | None = None,
    pretrained_text_path: str | Path | None = None,
    pretrained_visual_model: str | None = None,
    pretrained_text_model: str | None = None,
    cache_dir: str | None = None,
    skip_list: tuple[str, ...] = (),
    output_dict: bool | None = None,
    weights_only: bool = True,
) -> OpenClipModel:
    """A model with open_clip's face, in evaluation mode; what each option does stands in the
    module's table.

    Raises UnknownNameError for a name that nothing has, CheckpointError for weights that
    can't be read or don't fit, and ConfigError for an option that can't be honoured.
    """
    _refuse(jit=jit, cache_dir=cache_dir, skip_list=skip_list, output_dict=output_dict)
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    changes = {
        "mean": image_mean,
        "std": image_std,
        "interpolation": image_interpolation,
        "resize": image_resize_mode,
    }
    config = _changed(_config(model_name, pretrained), changes, force_quick_gelu)
    dtype, size = PRECISIONS[precision], force_image_size
    if pretrained:
        source = _weights(model_name, pretrained)
        clip = load_model(source, config=config, device=device, dtype=dtype, image_size=size).model
    else:
        if size is not None:
            config = replace(config, image=replace(config.image, image_size=size))
        clip = build(config).eval()
    if force_patch_dropout is not None:
        clip.image.set_patch_dropout(force_patch_dropout)
    _start(clip.image, "image", pretrained_image_path or pretrained_image)
    _start(clip.text, "text", pretrained_text_path or pretrained_text)
    for tower in (clip.image, clip.text):
        tower.to(dtype)
    return OpenClipModel(clip.to(device)).eval()


def create_model_and_transforms(
    model_name: str | Path,
    pretrained: str | Path | None = None,
    precision: str = "fp32",
    **options: Any,
) -> tuple[OpenClipModel, TrainTransform, Preprocess]:
    """The model, its transform in training and its transform in evaluation: `options` are those of
    `create_model`.

    >>> from diptych.compat import create_model_and_transforms
    >>> model, _, preprocess = create_model_and_transforms("tiny")
    >>> preprocess.size
    48
    """
    model = create_model(model_name, pretrained, precision, **options)
    preprocess = Preprocess(model.clip.config.preprocess, model.clip.config.image.image_size)
    return model, TrainTransform(preprocess), preprocess


def create_model_from_pretrained(
    model_name: str | Path,
    pretrained: str | Path | None = None,
    precision: str = "fp32",
    **options: Any,
) -> tuple[OpenClipModel, Preprocess]:
    """The model and its transform in evaluation; without `pretrained`, the first weights known of
    the model."""
    known = pretrained or published.weights(str(model_name))
    if not known:
        raise ConfigError(
            f"no weights are known for {model_name}; give pretrained=, a file or a folder"
        )
    model, _, preprocess = create_model_and_transforms(
        model_name, pretrained or str(model_name), precision, **options
    )
    return model, preprocess


def list_models() -> list[str]:
    """Names of models of two towers, as `diptych models` has them.

    >>> from diptych.compat import list_models
    >>> "eva02-clip-b-16" in list_models()
    True
    """
    return [
        name for name in published.names() if isinstance(published.entry(name).config, ClipConfig)
    ]


def _config(model_name: str | Path, pretrained: str | Path | None) -> ClipConfig:
    """OpenAI's weights have QuickGELU, and in open_clip their tag says so."""
    openai = f"{model_name}-openai"
    config = read_config(openai if pretrained == "openai" else model_name)
    assert config is not None
    return config


def _weights(model_name: str | Path, pretrained: str | Path) -> str:
    """A path, or the name of published weights."""
    if Path(pretrained).exists() or Path(pretrained).suffix or str(pretrained) == str(model_name):
        return str(pretrained)
    return f"{model_name}-openai" if pretrained == "openai" else f"{model_name}/{pretrained}"


def _start(tower: Tower[Any], side: Literal["image", "text"], path: str | Path | bool) -> None:
    if path is True:
        raise ConfigError(
            f"pretrained_{side} must be the path of weights; towers aren't fetched by themselves"
        )
    if path:
        start_tower(tower, side, str(path))


def _changed(config: ClipConfig, preprocess: dict[str, Any], quick_gelu: bool) -> ClipConfig:
    given = {name: value for name, value in preprocess.items() if value is not None}
    config = replace(config, preprocess=replace(config.preprocess, **given))
    if quick_gelu:
        config = replace(config, image=_quick(config.image), text=_quick(config.text))
    return config


def _quick(tower: T) -> T:
    """With QuickGELU, where the configuration leaves the activation to choose."""
    if not any(field.name == "activation" for field in fields(tower)):
        return tower
    return replace(tower, activation="quick_gelu")


def _refuse(**options: Any) -> None:
    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}={value!r} has no counterpart in Diptych; leave it out")
