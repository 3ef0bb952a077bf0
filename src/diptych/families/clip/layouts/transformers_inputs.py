"""The files beside a model of transformers that say how its inputs are made: of the image
processor, the tokenizer.

https://huggingface.co/docs/transformers/model_doc/clip
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diptych.config import ClipConfig, PreprocessConfig, TextTowerConfig, TokenizerConfig
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError, ConfigError, misfit
from diptych.families.clip.config import TextConfig
from diptych.inputs import write_transformers_files
from diptych.weights.read import read_json

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
CLIP_VOCABULARY = 49408
RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""


_CHANNELS = tuple[float, float, float]
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
"""What an image processor may say that it does."""
_OTHERS = ("crop_pct", "rescale_offset", "include_top", "crop_to_patches", "split_image")
"""Steps of other image processors, which nothing that begins with `do_` tells: EfficientNet's
`include_top` divides by the deviations a second time."""
_GREYS = 255


def read_preprocess(
    folder: Path, image_size: int, default: PreprocessConfig | None = None
) -> PreprocessConfig:
    """What the folder says, and `default` (None: CLIP's) where it says nothing. Raises
    CheckpointError for pictures that Diptych makes in no such way."""
    default, cfg = default or PreprocessConfig(), read_processor(folder)
    if cfg is None:
        return default
    return described(folder, cfg, lambda cfg: _read_squares(cfg, image_size, default))


def read_processor(folder: Path) -> dict[str, Any] | None:
    """What the folder says of its image processor; None: nothing."""
    if (folder / PREPROCESSOR).is_file():
        cfg = read_json(folder / PREPROCESSOR)
    elif (folder / PROCESSOR).is_file():
        cfg = read_json(folder / PROCESSOR).get("image_processor", {})
        if not isinstance(cfg, dict):
            raise CheckpointError(f"{folder / PROCESSOR} describes no image processor")
    else:
        return None
    return {name: value for name, value in cfg.items() if value is not None}


def described(
    folder: Path, cfg: dict[str, Any], read: Callable[[dict[str, Any]], PreprocessConfig]
) -> PreprocessConfig:
    """What `read` makes of the description. Raises CheckpointError where it can make nothing, or
    where pictures go through other steps than here."""
    try:
        _check_steps(cfg)
        return read(cfg)
    except (TypeError, AttributeError, ValueError, ArithmeticError, ConfigError) as error:
        raise CheckpointError(
            f"{folder} describes no preprocessing of CLIP's: {misfit(error)}"
        ) from error


def _check_steps(cfg: Mapping[str, Any]) -> None:
    """Raises ConfigError for a step that Diptych hasn't, or that it always takes."""
    strange = {name for name, on in cfg.items() if name.startswith("do_") and on} - {*_STEPS}
    strange |= {name for name in _OTHERS if cfg.get(name)}
    strange |= {name for name in ("do_resize", "do_rescale") if not cfg.get(name, True)}
    if abs(cfg.get("rescale_factor", 1 / _GREYS) * _GREYS - 1) > 1e-3:
        strange.add("rescale_factor")
    if strange:
        name = min(strange)
        raise ConfigError(f"{name} = {cfg[name]!r} has no place in Diptych's preprocessing")


def _read_squares(
    cfg: Mapping[str, Any], image_size: int, default: PreprocessConfig
) -> PreprocessConfig:
    size = cfg.get("size", image_size)
    if isinstance(size, int):  # of old
        size = {"shortest_edge": size} if default.resize == "shortest" else _square(size)
    size = read_as(dict[str, int], size, "size")
    crop = cfg.get("crop_size", image_size)
    crop = _square(crop) if isinstance(crop, int) else read_as(dict[str, int], crop, "crop_size")
    is_cropped = cfg.get("do_center_crop", "shortest_edge" in size or "crop_size" in cfg)
    wanted = _square(image_size)
    fits = crop == wanted if is_cropped else size == wanted
    if fits and size == wanted:
        return read_normal(cfg, default, resize="squash")
    shortest = size["shortest_edge"] if size.keys() == {"shortest_edge"} else 0
    if fits and shortest >= image_size:
        return read_normal(cfg, default, resize="shortest", crop_share=_share(image_size, shortest))
    cropped = f"cropped to {_said(crop)}" if is_cropped else "not cropped"
    raise ConfigError(
        f"pictures are resized to {_said(size)} and {cropped}; Diptych resizes to the tower's "
        f"square, {image_size} x {image_size}, or resizes the shorter side and crops to it"
    )


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _said(size: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items())


def _share(crop: int, shortest: int) -> float:
    """Of the shorter side, such that the crop is of a picture of exactly `shortest`."""
    share = crop / shortest
    return share if int(crop / share) == shortest else math.nextafter(share, 0)


def read_normal(
    cfg: Mapping[str, Any], default: PreprocessConfig, **resizing: Any
) -> PreprocessConfig:
    """Filter, means and deviations, by `default` where they aren't said, beside the fields of
    `PreprocessConfig` that say how pictures are resized. Raises CheckpointError for a filter that
    Diptych hasn't."""
    resample = cfg.get("resample", RESAMPLE[default.interpolation])
    names = {number: name for name, number in RESAMPLE.items()}
    if resample not in names:
        raise CheckpointError(
            f"pictures are resized by Pillow's filter {resample}; "
            "known are 2 (bilinear) and 3 (bicubic)"
        )
    mean, std = cfg.get("image_mean", default.mean), cfg.get("image_std", default.std)
    if not cfg.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return PreprocessConfig(
        interpolation="bicubic" if names[resample] == "bicubic" else "bilinear",
        mean=read_as(_CHANNELS, mean, "image_mean"),
        std=read_as(_CHANNELS, std, "image_std"),
        **resizing,
    )


def read_tokenizer(folder: Path, text: TextTowerConfig) -> TokenizerConfig:
    """CLIP's tokenizer for a vocabulary of its size, or the folder's own; that alone knows another
    end of text than CLIP's, and the words of a text tower that isn't CLIP's."""
    if not isinstance(text, TextConfig):
        return TokenizerConfig(kind="huggingface", name=str(folder))
    own = text.vocab_size != CLIP_VOCABULARY and (folder / "tokenizer_config.json").is_file()
    if own or text.end_id is not None:
        return TokenizerConfig(kind="huggingface", name=str(folder))
    return TokenizerConfig()


def preprocess_json(config: ClipConfig) -> dict[str, Any]:
    """preprocessor_config.json. Raises CheckpointError for what transformers' CLIPImageProcessor
    doesn't do."""
    size, image = config.image.image_size, config.preprocess
    if image.resize == "longest":
        raise CheckpointError(
            "preprocessor_config.json has no place for padding; preprocess.resize must not be "
            "'longest'"
        )
    square = _square(size)
    shortest = {"shortest_edge": int(size / image.crop_share)}
    return {
        "processor_class": "CLIPProcessor",
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": shortest if image.resize == "shortest" else square,
        "resample": RESAMPLE[image.interpolation],
        "do_center_crop": image.resize == "shortest",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
        "do_convert_rgb": True,
    }


def write(folder: Path, config: ClipConfig, processor: dict[str, Any] | None) -> None:
    """preprocessor_config.json, of a model that sees pictures, and the vocabulary if it is
    CLIP's."""
    if processor is not None:
        (folder / PREPROCESSOR).write_text(json.dumps(processor, indent=2) + "\n")
    text = config.text
    if (
        config.tokenizer.kind == "clip"
        and isinstance(text, TextConfig)
        and text.vocab_size == CLIP_VOCABULARY
    ):
        write_transformers_files(folder, text.context_length)
