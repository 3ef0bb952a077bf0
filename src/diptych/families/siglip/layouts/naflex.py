"""What is NaFlex's own in a folder of transformers' `Siglip2Model`: the image tower, and how its
pictures are made.

https://huggingface.co/docs/transformers/model_doc/siglip2
"""

import math
from pathlib import Path
from typing import Any

from diptych.config import ClipConfig, PreprocessConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.clip.layouts import transformers_sections as sections
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.pretrained_naflex import PREPROCESS
from diptych.weights.kernels import FROM_MATRIX
from diptych.weights.mapping import Rule

PATCH_WEIGHT = "embeddings.patch_embedding.weight"
WRITTEN = Rule("image.patch.weight", f"vision_model.{PATCH_WEIGHT}", FROM_MATRIX)


def read_image(cfg: dict[str, Any], activation: str) -> NaflexImageConfig:
    """From `vision_config`. Raises CheckpointError for a table of positions that is no square."""
    positions, patch_size = cfg.get("num_patches", 256), cfg.get("patch_size", 16)
    if math.isqrt(positions) ** 2 != positions:
        raise CheckpointError(f"num_patches {positions}: positions make no square")
    return NaflexImageConfig(
        image_size=math.isqrt(positions) * patch_size,
        patch_size=patch_size,
        activation=sections.activation(cfg, activation),
        **sections.read_sizes(cfg, NaflexImageConfig()),
    )


def image_json(image: NaflexImageConfig, embed_dim: int) -> dict[str, Any]:
    """`vision_config` of this tower. Raises CheckpointError for one that transformers hasn't."""
    if image.interpolation != "bilinear":
        raise CheckpointError(
            "transformers' NaFlex tower interpolates its positions bilinearly, this one "
            f"{image.interpolation}"
        )
    return {
        "model_type": "siglip2_vision_model",
        "num_patches": image.side**2,
        "patch_size": image.patch_size,
        "hidden_act": sections.ACTIVATIONS[image.activation],
    } | sections.sizes(image, embed_dim)


def read_preprocess(folder: Path, image: NaflexImageConfig) -> PreprocessConfig:
    """From the image processor's file; where there is none, `Siglip2ImageProcessor` as it is.
    Raises CheckpointError for another processor's, or for patches that aren't the tower's."""
    cfg = inputs.read_processor(folder)
    if cfg is None:
        return _preprocess({}, image)
    kind = str(cfg.get("image_processor_type", "Siglip2ImageProcessor"))
    if not kind.startswith("Siglip2ImageProcessor"):
        raise CheckpointError(f"{folder}: pictures of a NaFlex tower aren't made by a {kind}")
    return inputs.described(folder, cfg, lambda cfg: _preprocess(cfg, image))


def _preprocess(cfg: dict[str, Any], image: NaflexImageConfig) -> PreprocessConfig:
    if (size := cfg.get("patch_size", 16)) != image.patch_size:
        raise CheckpointError(
            f"pictures are cut into patches of {size} pixels; the tower's are of {image.patch_size}"
        )
    return inputs.read_normal(
        cfg,
        PREPROCESS,
        resize="native",
        patches=cfg.get("max_num_patches", 256),
        patch_size=size,
    )


def preprocess_json(config: ClipConfig) -> dict[str, Any]:
    """preprocessor_config.json, for `Siglip2ImageProcessor`."""
    how = config.preprocess
    return {
        "processor_class": "Siglip2Processor",
        "image_processor_type": "Siglip2ImageProcessor",
        "do_resize": True,
        "resample": inputs.RESAMPLE[how.interpolation],
        "patch_size": how.patch_size,
        "max_num_patches": how.patches,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
        "do_convert_rgb": True,
    }
