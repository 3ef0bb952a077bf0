"""Models that only write captions (GenLIP), by open_clip's names and configurations: they compare
nothing, so Diptych has no model of theirs, but open_clip's class."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.checkpoints.detect import open_foreign
from diptych.checkpoints.locate import locate
from diptych.compat.constants import LOCAL
from diptych.compat.convert import convert_state_dict
from diptych.compat.naflex_genlip_model import GenLip, GenLipModel, NaFlexGenLip
from diptych.compat.transform import (
    AugmentationCfg,
    in_evaluation_of,
    in_training,
    preprocess_config,
)
from diptych.compat.transforms.training import augmentation
from diptych.errors import CheckpointError
from diptych.families.genlip.layouts.open_clip import OF_PATCHES, SECTION


def create(
    model_name: str | Path,
    said: Mapping[str, Any],
    weights: str | None,
    preprocess: Mapping[str, Any],
    cache_dir: str | Path | None = None,
) -> GenLipModel:
    """The model, of `weights` (None: random), the authors' or open_clip's; `cache_dir`: where what
    the hub gives is kept. Raises CheckpointError for those that don't fit."""
    vision = dict(said["vision_cfg"])
    kind = NaFlexGenLip if vision.get(OF_PATCHES, True) else GenLip
    parts = (dict(said["text_cfg"]), dict(said[SECTION]))
    try:
        model = kind(said["embed_dim"], vision, *parts)
    except TypeError as error:
        raise CheckpointError(f"{model_name} describes no GenLIP model: {error}") from error
    how = dict(said.get("preprocess_cfg") or {})
    for name in ("size", "mode"):
        how.pop(name, None)
    asked = {name: value for name, value in preprocess.items() if value is not None}
    model.preprocess = config = preprocess_config(how | asked)
    model.visual.preprocess_cfg = {
        "size": model.visual.image_size,
        "mode": "RGB",
        "mean": config.mean,
        "std": config.std,
        "interpolation": config.interpolation,
        "resize_mode": config.resize,
        "fill_color": config.fill,
    }
    if weights is not None:
        fill(model, weights, cache_dir=cache_dir)
    model.traits = type(model).traits
    return model


def fill(
    model: GenLipModel, weights: str, strict: bool = True, cache_dir: str | Path | None = None
) -> Any:
    """Take weights from a file, a folder or a repository."""
    path = locate(weights.removeprefix(LOCAL), cache_dir=cache_dir).path
    # Read as a model would be, the tower's names would be taken for all there is.
    tensors = dict(open_foreign(path).weights.tensors)
    try:
        return model.load_state_dict(convert_state_dict(model, tensors), strict)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error


def transforms(
    model: GenLipModel, aug_cfg: Mapping[str, Any] | AugmentationCfg | None
) -> tuple[Any, Any]:
    """In training and in evaluation: of a model of patches such that make them, always."""
    cfg, size = augmentation(aug_cfg), model.visual.image_size[0]
    if isinstance(model, NaFlexGenLip):
        cfg = replace(cfg, naflex=True, use_timm=True)
    config = model.preprocess
    return in_training(config, size, cfg), in_evaluation_of(config, size, cfg)
