"""The files beside a model of transformers that say how its inputs are made: of the image
processor, the tokenizer.

https://huggingface.co/docs/transformers/model_doc/clip
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError, ConfigError, first_line
from diptych.families.clip.config import TextConfig
from diptych.inputs import write_transformers_files
from diptych.weights.read import read_json

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
CLIP_VOCABULARY = 49408
RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""


_CHANNELS = tuple[float, float, float]


def read_preprocess(folder: Path, image_size: int) -> PreprocessConfig:
    """CLIP's preprocessing where the folder says nothing. Raises CheckpointError for one that
    Diptych hasn't."""
    cfg = read_processor(folder)
    if cfg is None:
        return PreprocessConfig()
    return described(folder, cfg, lambda cfg: _read_squares(cfg, image_size))


def read_processor(folder: Path) -> dict[str, Any] | None:
    """What the folder says of its image processor; None: nothing."""
    if (folder / PREPROCESSOR).is_file():
        return read_json(folder / PREPROCESSOR)
    if (folder / PROCESSOR).is_file():
        return read_json(folder / PROCESSOR).get("image_processor", {})
    return None


def described(
    folder: Path, cfg: dict[str, Any], read: Callable[[dict[str, Any]], PreprocessConfig]
) -> PreprocessConfig:
    """What `read` makes of the description. Raises CheckpointError where it can make nothing."""
    try:
        return read(cfg)
    except (TypeError, AttributeError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{folder} describes no preprocessing of CLIP's: {first_line(error)}"
        ) from error


def _read_squares(cfg: Mapping[str, Any], image_size: int) -> PreprocessConfig:
    size = cfg.get("size", image_size)
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    if shortest not in (None, image_size):
        raise CheckpointError(
            f"pictures are resized to {shortest} before they are cropped to {image_size}: "
            "not supported"
        )
    return read_normal(cfg, resize="shortest" if shortest else "squash")


def read_normal(cfg: Mapping[str, Any], **resizing: Any) -> PreprocessConfig:
    """Filter, means and deviations, beside the fields of `PreprocessConfig` that say how pictures
    are resized. Raises CheckpointError for a filter that Diptych hasn't."""
    default = PreprocessConfig()
    resample = cfg.get("resample", 3)
    names = {number: name for name, number in RESAMPLE.items()}
    if resample not in names:
        raise CheckpointError(
            f"pictures are resized by Pillow's filter {resample}; "
            "known are 2 (bilinear) and 3 (bicubic)"
        )
    return PreprocessConfig(
        interpolation="bicubic" if names[resample] == "bicubic" else "bilinear",
        mean=read_as(_CHANNELS, cfg.get("image_mean", default.mean), "image_mean"),
        std=read_as(_CHANNELS, cfg.get("image_std", default.std), "image_std"),
        **resizing,
    )


def read_tokenizer(folder: Path, text: TextConfig) -> TokenizerConfig:
    """CLIP's tokenizer for a vocabulary of its size, or the folder's own; that alone knows another
    end of text than CLIP's."""
    own = text.vocab_size != CLIP_VOCABULARY and (folder / "tokenizer_config.json").is_file()
    if own or text.end_id is not None:
        return TokenizerConfig(kind="huggingface", name=str(folder))
    return TokenizerConfig()


def preprocess_json(config: ClipConfig) -> dict[str, Any]:
    """preprocessor_config.json. Raises CheckpointError for what transformers' CLIPImageProcessor
    doesn't do."""
    size, image = config.image.image_size, config.preprocess
    if image.resize == "longest" or image.crop_share != 1:
        raise CheckpointError(
            "preprocessor_config.json has no place for padding, "
            "nor here for a crop that leaves a margin; "
            "preprocess.resize must not be 'longest', and preprocess.crop_share must be 1"
        )
    square = {"height": size, "width": size}
    return {
        "processor_class": "CLIPProcessor",
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size} if image.resize == "shortest" else square,
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
