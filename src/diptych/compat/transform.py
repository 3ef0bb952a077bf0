"""Image transforms as open_clip and eva_clip have them: from a Pillow picture to a tensor."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torchvision.transforms import Compose  # pyright: ignore[reportMissingTypeStubs]

from diptych.compat.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from diptych.compat.transforms.patches import PatchTransforms
from diptych.compat.transforms.steps import (
    CenterCropOrPad,
    MaybeConvertMode,
    MaybeToTensor,
    ResizeKeepRatio,
    Size,
    Transform,
    center_crop_or_pad,
    color_jitter,
    gray_scale,
    in_evaluation,
    sides,
)
from diptych.compat.transforms.training import (
    AugmentationCfg,
    TrainTransform,
    augmentation,
    in_patches,
    in_training,
)
from diptych.compat.utils import to_2tuple
from diptych.config import PreprocessConfig
from diptych.config.serialize import from_dict
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import Preprocess

__all__ = [
    "AugmentationCfg",
    "CenterCropOrPad",
    "MaybeConvertMode",
    "MaybeToTensor",
    "PatchTransforms",
    "PreprocessCfg",
    "ResizeKeepRatio",
    "TrainTransform",
    "Transform",
    "center_crop_or_pad",
    "color_jitter",
    "gray_scale",
    "image_transform",
    "image_transform_v2",
    "merge_preprocess_dict",
    "merge_preprocess_kwargs",
    "preprocess_config",
    "to_2tuple",
    "transform_of",
    "without_size",
]

_convert_to_rgb = MaybeConvertMode("RGB")
"""RGB of a Pillow picture, for transforms of one's own."""


@dataclass
class PreprocessCfg:
    """What a picture becomes; the fields are open_clip's."""

    size: Any = 224
    """Pixels of a square's side, or (height, width)."""
    mode: str = "RGB"
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self):
        if self.mode != "RGB":
            raise ConfigError(f"mode={self.mode!r} has no counterpart in Diptych; it is RGB")

    @property
    def num_channels(self) -> int:
        """Of a picture."""
        return 3

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.num_channels, *sides(self.size))


def image_transform(
    image_size: Size,
    is_train: bool,
    mean: Any = None,
    std: Any = None,
    resize_mode: str | None = None,
    interpolation: str | None = None,
    fill_color: int = 0,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None = None,
    resize_longest_max: bool = False,
) -> Compose | PatchTransforms:
    """A transform to `image_size`, a square's side or (height, width): in evaluation, or with
    `is_train` a random crop as `aug_cfg` says; where that says naflex, a `PatchTransforms`.

    `mean`, `std`: three numbers or one for all; None: OpenAI's. `resize_mode`: `shortest`,
    `longest` or `squash`; `resize_longest_max=True` is how eva_clip says `longest`. Raises
    ConfigError for other values, and for augmentation that only timm has without `use_timm`.
    """
    config = preprocess_config(
        {
            "mean": mean,
            "std": std,
            "interpolation": interpolation,
            "resize_mode": "longest" if resize_longest_max else resize_mode,
            "fill_color": fill_color,
        }
    )
    return (
        in_training(config, image_size, aug_cfg, interpolation)
        if is_train
        else (in_evaluation_of(config, image_size, aug_cfg))
    )


def in_evaluation_of(
    config: PreprocessConfig, size: Size, aug_cfg: Mapping[str, Any] | AugmentationCfg | None
) -> Transform | PatchTransforms:
    """In evaluation, to `size`; where `aug_cfg` says naflex, to patches. Raises UnknownNameError
    for a word that isn't an `AugmentationCfg`'s."""
    cfg = augmentation(aug_cfg)
    return in_patches(config, cfg, training=False) if cfg.naflex else transform_of(config, size)


def transform_of(config: PreprocessConfig, size: Size) -> Transform:
    """In evaluation, to `size`."""
    height, width = sides(size)
    fused = Preprocess(config, height) if height == width else None
    return Transform(in_evaluation(config, size), fused)


def image_transform_v2(
    cfg: PreprocessCfg,
    is_train: bool,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None = None,
) -> Compose | PatchTransforms:
    """`image_transform` of a `PreprocessCfg`."""
    said = asdict(cfg)
    del said["mode"]
    return image_transform(said.pop("size"), is_train, aug_cfg=aug_cfg, **said)


def preprocess_config(
    said: Mapping[str, Any], base: PreprocessConfig | None = None
) -> PreprocessConfig:
    """`base`, changed as open_clip's words say; None there leaves a field as it is. Raises
    ConfigError for a value that a field can't have, UnknownNameError for another word."""
    words = {"resize_mode": "resize", "fill_color": "fill"}
    known = [field.name for field in fields(PreprocessCfg) if field.name not in ("size", "mode")]
    given = dict[str, Any]()
    for name, value in said.items():
        if name not in known:
            raise UnknownNameError("preprocessing option", name, known)
        if name in ("mean", "std") and isinstance(value, int | float):
            value = (value,) * 3
        if value is not None and value != "":  # open_clip passes over empty words, too
            given[words.get(name, name)] = value
    if given.get("interpolation") == "random":  # which is bicubic in evaluation there
        given["interpolation"] = "bicubic"
    return from_dict(PreprocessConfig, asdict(base or PreprocessConfig()) | given)


def without_size(said: Mapping[str, Any] | None, side: int) -> dict[str, Any]:
    """What a `preprocess_cfg` says beside the size and the mode of a model's pictures. Raises
    ConfigError where these are others than the model's."""
    rest = dict(said or {})
    size = rest.pop("size", None)
    if size is not None and sides(size) != (side, side):
        raise ConfigError(
            f"size={size} isn't the model's, {side}; say force_image_size for pictures of that size"
        )
    PreprocessCfg(mode=rest.pop("mode", None) or "RGB")  # which refuses another one
    return rest


def merge_preprocess_dict(
    base: PreprocessCfg | Mapping[str, Any], overlay: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a `PreprocessCfg` in `base`, and those of `overlay` that aren't None before
    them."""
    known = {field.name for field in fields(PreprocessCfg)}
    below = asdict(base) if isinstance(base, PreprocessCfg) else base
    found = {name: value for name, value in below.items() if name in known}
    given = {name: value for name, value in overlay.items() if name in known}
    return found | {name: value for name, value in given.items() if value is not None}


def merge_preprocess_kwargs(
    base: PreprocessCfg | Mapping[str, Any], **overlay: Any
) -> dict[str, Any]:
    """`merge_preprocess_dict`, of words."""
    return merge_preprocess_dict(base, overlay)
