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
| jit                                     | TorchScript: see `compat.trace_model`                |
| force_image_size, force_patch_dropout   | done                                                 |
| force_naflex_vision                     | a plain ViT, or timm's ViT or EVA, becomes timm's    |
|                                         | NaFlexVit, for pictures of their own aspect; a model |
|                                         | that is one stays so                                 |
| force_context_length                    | done; a table of positions is interpolated           |
| force_quick_gelu, image_mean, image_std | done                                                 |
| image_interpolation, image_resize_mode  | done                                                 |
| force_preprocess_cfg, aug_cfg           | done                                                 |
| vision_cfg, text_cfg, multimodal_cfg,   | in place of the model's own section or field         |
| embed_dim, quick_gelu                   |                                                      |
| init_logit_scale, init_logit_bias       | where they start; weights have their own, and weights|
|                                         | without a bias get one of 0, as in open_clip         |
| nonscalar_logit_scale                   | both have the shape [1]                              |
| pretrained_image, pretrained_text       | paths; so are open_clip's `..._path`. True is refused|
|                                         | where it would fetch another library's tower         |
| skip_list                               | names of towers' tensors that `pretrained_image` and |
|                                         | `pretrained_text` leave as they were                 |
| force_custom_clip, force_custom_text    | `model.text` is the text tower, as with custom_text  |
|                                         | in a JSON; a file's layout is seen from its names    |
| pretrained_visual_model, ..._text_model | no meaning, for the same reason                      |
| pretrained_hf                           | no meaning: no tower is fetched by itself            |
| weights_only                            | no meaning: always so                                |
| cast_dtype                              | no meaning: norms work in any precision              |
| all others                              | refused where set                                    |
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torchvision.transforms import Compose  # pyright: ignore[reportMissingTypeStubs]

from diptych.compat.coca_model import CoCa
from diptych.compat.constants import HF_HUB_PREFIX, LOCAL_DIR_PREFIX
from diptych.compat.convert import convert_state_dict
from diptych.compat.faces.tracing import trace_model
from diptych.compat.faces.wrapping import wrap
from diptych.compat.listing import (
    add_model_config,
    configured,
    get_model_config,
    list_models,
    said_of,
)
from diptych.compat.loading import places
from diptych.compat.loading.building import Changes, Start, initialise, load, start_towers
from diptych.compat.loading.captioners import create, transforms
from diptych.compat.loading.checkpoint import load_checkpoint, load_state_dict
from diptych.compat.loading.description import is_bare, parse_model_name
from diptych.compat.loading.genlip_configs import described
from diptych.compat.loading.options import refuse
from diptych.compat.loading.overrides import FIELDS, sections_of
from diptych.compat.loading.precision import dtype_of
from diptych.compat.loading.settings import asks_for_text, drop_patches, settle
from diptych.compat.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from diptych.compat.losses.choice import create_loss
from diptych.compat.model import (
    CLIP,
    CustomTextCLIP,
    convert_to_custom_text_state_dict,
    convert_weights_to_lp,
    get_cast_dtype,
    resize_pos_embed,
    resize_text_pos_embed,
    set_model_preprocess_cfg,
)
from diptych.compat.naflex_genlip_model import GenLipModel
from diptych.compat.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
    is_pretrained_cfg,
    list_pretrained_tags_by_model,
)
from diptych.compat.registry import ModelConfigs
from diptych.compat.tokenizer import (
    DEFAULT_CONTEXT_LENGTH,
    HFTokenizer,
    SigLipTokenizer,
    SimpleTokenizer,
    get_tokenizer,
)
from diptych.compat.transform import (
    AugmentationCfg,
    PatchTransforms,
    PreprocessCfg,
    Transform,
    image_transform_v2,
    in_evaluation_of,
    in_training,
    merge_preprocess_dict,
    merge_preprocess_kwargs,
)
from diptych.encoder.load import device_of
from diptych.errors import ConfigError, MissingError, RandomWeightsWarning
from diptych.families.timm.as_naflex import NotNaflexError, as_naflex
from diptych.models import Clip

__all__ = [
    "CLIP",
    "ClipLoss",
    "CoCa",
    "CoCaLoss",
    "CustomTextCLIP",
    "DEFAULT_CONTEXT_LENGTH",
    "DistillClipLoss",
    "HFTokenizer",
    "HF_HUB_PREFIX",
    "LOCAL_DIR_PREFIX",
    "PreprocessCfg",
    "SigLipLoss",
    "SigLipTokenizer",
    "SimpleTokenizer",
    "add_model_config",
    "convert_state_dict",
    "convert_to_custom_text_state_dict",
    "convert_weights_to_lp",
    "create_loss",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "download_pretrained",
    "download_pretrained_from_hf",
    "get_cast_dtype",
    "get_model_config",
    "get_pretrained_cfg",
    "get_tokenizer",
    "image_transform_v2",
    "is_pretrained_cfg",
    "list_models",
    "list_pretrained_tags_by_model",
    "load_checkpoint",
    "load_state_dict",
    "merge_preprocess_dict",
    "merge_preprocess_kwargs",
    "parse_model_name",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "set_model_preprocess_cfg",
]

R = TypeVar("R")
_MODEL_CONFIGS = ModelConfigs()
"""The registry, which scripts read and write: see its class."""


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
    force_context_length: int | None = None,
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
    skip_list: Sequence[str] = (),
    output_dict: bool | None = None,
    weights_only: bool = True,
    load_weights: bool = True,
    require_pretrained: bool = False,
    pretrained_hf: bool = True,
    nonscalar_logit_scale: bool = False,
    cast_dtype: torch.dtype | None = None,
    force_naflex_vision: bool = False,
    **model_kwargs: Any,
) -> Any:
    """A model with open_clip's face (`OpenClipModel`), in evaluation mode; what each option does,
    `model_kwargs` among them, stands in the module's table.

    A configuration that stands beside weights wins over the one that `model_name` means, and
    AssumptionWarning says in what they differ; a model without weights is a RandomWeightsWarning.
    Raises UnknownModelError, a RuntimeError, for a name that nothing has, CheckpointError for
    weights that can't be read or don't fit, and ConfigError for an option that can't be honoured.
    """
    fields = {name: model_kwargs.pop(name) for name in FIELDS if name in model_kwargs}
    refuse(model_kwargs)
    dtype, place = dtype_of(precision), _place(device)
    preprocess = {
        "mean": image_mean,
        "std": image_std,
        "interpolation": image_interpolation,
        "resize_mode": image_resize_mode,
    }
    forced = force_preprocess_cfg or {}
    preprocess |= {name: value for name, value in forced.items() if value is not None}
    without = not load_weights or is_bare(str(model_name))
    named = configured(model_name, without, cache_dir)
    if (said := described(named, cache_dir)) is not None:
        unused = {"jit": jit, "force_quick_gelu": force_quick_gelu, "skip_list": skip_list}
        unused |= {"force_image_size": force_image_size, "force_patch_dropout": force_patch_dropout}
        unused |= {"force_context_length": force_context_length}
        unused |= {"pretrained_image": pretrained_image or pretrained_image_path}
        unused |= {"pretrained_text": pretrained_text or pretrained_text_path}
        refuse(fields | unused)
        weights = str(named) if places.is_place(str(named)) else pretrained
        weights = str(weights) if weights and load_weights else None
        _say_random(model_name, weights is not None, load_weights, require_pretrained)
        captioner = create(model_name, said, weights, preprocess, cache_dir)
        return captioner.to(place, dtype).eval()
    source = places.find(named, pretrained if load_weights else None, cache_dir)
    if require_pretrained:
        _say_random(model_name, source.path is not None, False, True)
    said = said_of(named, source.path) | sections_of(fields)
    fields = {"init_logit_scale": said.get("init_logit_scale")} | fields
    fields |= {"quick_gelu": True} if force_quick_gelu else {}
    changes = Changes(preprocess, fields, _side(force_image_size), force_context_length)
    has_weights = source.path is not None and load_weights
    clip = load(source, changes, dtype) if has_weights else initialise(source, changes, place)
    if force_naflex_vision and not clip.config.image.native:
        clip = _over_patches(clip, model_name)
    if force_patch_dropout is not None:
        said["vision_cfg"] = said.get("vision_cfg", {}) | {"patch_dropout": force_patch_dropout}
    drop_patches(clip, said.get("vision_cfg", {}))
    start = Start(
        pretrained_image_path or pretrained_image,
        pretrained_text_path or pretrained_text,
        (skip_list,) if isinstance(skip_list, str) else tuple(skip_list),
    )
    start_towers(clip, start, has_weights)
    _say_random(model_name, has_weights or start.whole, load_weights, False)
    for tower in (clip.image, clip.text):
        tower.to(dtype)
    custom = force_custom_text or force_custom_clip
    model = wrap(
        clip.to(place),
        bool(output_dict or said.get("output_dict")),
        True if custom else asks_for_text(said),
    ).eval()
    settle(model, said)
    if nonscalar_logit_scale or said.get("nonscalar_logit_scale"):
        model.reshape_scale(1)
    return trace_model(model, 1, place) if jit else model


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
) -> tuple[Any, Compose | PatchTransforms, Transform | PatchTransforms]:
    """The model, its transform in training (`aug_cfg`: see `AugmentationCfg`) and its transform in
    evaluation: `options` are those of `create_model`.

    >>> from diptych.compat import create_model_and_transforms
    >>> model, _, preprocess = create_model_and_transforms("tiny", load_weights=False)
    >>> preprocess.transforms[1]
    CenterCrop(size=(48, 48))
    """
    order = (precision, device, False, force_quick_gelu)
    model = create_model(model_name, pretrained, *order, **options)
    if isinstance(model, GenLipModel):
        return model, *transforms(model, aug_cfg)
    config, size = model.config.preprocess, model.config.image.image_size
    made = trace_model(model, 1, _place(device)) if jit else model
    drawn = options.get("image_interpolation")
    train = in_training(config, size, aug_cfg, drawn)
    return made, train, in_evaluation_of(config, size, aug_cfg)


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
    pretrained = pretrained or places.first_known(str(configured(model_name)))
    order = (precision, device, jit, force_quick_gelu)
    options.setdefault("require_pretrained", True)
    model, _, preprocess = create_model_and_transforms(model_name, pretrained, *order, **options)
    return (model, preprocess) if return_transform else model


def _say_random(name: str | Path, has_weights: bool, wanted: bool, required: bool) -> None:
    """Warns of random weights where some were `wanted`; raises MissingError where they are
    `required`."""
    if has_weights:
        return
    if required:
        raise MissingError(f"no weights were given for {name}; say pretrained=")
    if wanted:
        warnings.warn(
            f"no pretrained weights are loaded for {name}: it is initialised randomly; say "
            "pretrained=, or load_weights=False if that is meant",
            RandomWeightsWarning,
            stacklevel=4,
        )


def _over_patches(clip: Clip, name: str | Path) -> Clip:
    """As `as_naflex`, whose refusal says what model it is."""
    try:
        return as_naflex(clip)
    except NotNaflexError as error:
        raise NotNaflexError(f"{name}: {error}") from error


def _place(device: str | torch.device) -> torch.device:
    """Where a model is to be; a model alone may be on `meta`, too."""
    return torch.device("meta") if str(device) == "meta" else device_of(device)


def _side(size: int | tuple[int, int] | None) -> int | None:
    """Of square pictures. Raises ConfigError for others."""
    if not isinstance(size, tuple):
        return size
    if size[0] != size[1]:
        raise ConfigError(f"force_image_size={size} is no square; the towers take squares alone")
    return size[0]
