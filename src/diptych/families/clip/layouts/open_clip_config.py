"""open_clip's JSON, and EVA-CLIP's, which is a dialect of it, <-> ClipConfig.

An option that our towers don't have is refused, never dropped.
"""

import math
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

from diptych.config import (
    Activation,
    ClipConfig,
    DecoderConfig,
    ImageTowerConfig,
    TextTowerConfig,
    TowerConfig,
)
from diptych.config.serialize import from_dict, read_as, to_dict
from diptych.errors import CheckpointError, misfit
from diptych.families.clip.layouts.open_clip_inputs import (
    OF_TOKENIZER,
    preprocess_json,
    read_preprocess,
    read_tokenizer,
    tokenizer_json,
)
from diptych.families.clip.layouts.open_clip_options import refuse_rest
from diptych.families.clip.layouts.towers import OpenClipTower, open_clip_towers

T = TypeVar("T", bound=TowerConfig)

_PREPROCESS = "preprocess_cfg"
"""Beside a `model_cfg`, or within it, where one stands alone."""
_BUDGET = "image_seq_len"
"""Of a `vision_cfg` of open_clip's main branch: the most patches of a picture."""


class _Tower(TypedDict, total=False):
    """What sections of towers may say whose type is the same for all."""

    width: int
    heads: int
    head_width: int
    mlp_ratio: float
    patch_size: int | None
    context_length: int
    vocab_size: int
    timm_model_name: str | None
    hf_model_name: str | None
    hf_tokenizer_name: str | None


class _Model(TypedDict, total=False):
    embed_dim: int
    vision_cfg: _Tower
    text_cfg: _Tower
    multimodal_cfg: _Tower
    quick_gelu: bool


def from_json(content: dict[str, Any]) -> ClipConfig:
    """The configuration that `model_cfg` and `preprocess_cfg` say.

    Raises CheckpointError for what is missing and for options that Diptych doesn't know, naming the
    first.
    """
    try:
        model = modern(dict(read_as(_Model, content.get("model_cfg") or {}, "model_cfg")))
        pictures = read_as(dict[str, Any], content.get(_PREPROCESS) or {}, _PREPROCESS)
        inside = read_as(dict[str, Any], model.pop(_PREPROCESS, None) or {}, _PREPROCESS)
        embed_dim, vision = model.pop("embed_dim"), dict(model.pop("vision_cfg"))
        one = "multimodal_cfg" in model and "text_cfg" not in model
        said = dict(vision)
        quick: Activation = "quick_gelu" if model.pop("quick_gelu", False) else "gelu"
        bias = model.pop("init_logit_bias", None)
        budget, side = vision.pop(_BUDGET, None), vision.get("image_size", 224)
        image = _tower(vision, quick, ImageTowerConfig, "vision_cfg")
        if one:
            said |= {"width": tower_of(image).token_width(image)}
        text, decoder = _texts(model, said, one)
        refuse_rest(model, "model_cfg")
        config = ClipConfig(
            image=image,
            text=_tower(
                dict(text), quick, TextTowerConfig, "multimodal_cfg" if one else "text_cfg", one
            ),
            embed_dim=embed_dim,
            logit_bias=None if bias is None else float(bias),
            preprocess=read_preprocess(inside | pictures, _pictures(image, side, budget)),
            tokenizer=read_tokenizer(text),
            decoder=None if decoder is None else _decoder(decoder, quick, text, one),
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except KeyError as error:
        raise CheckpointError(f"the configuration has no {error}") from error
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"the configuration doesn't describe a model: {misfit(error)}"
        ) from error


def read_image(vision: Mapping[str, Any]) -> ImageTowerConfig:
    """The image tower that a `vision_cfg` means. Raises CheckpointError for one that Diptych
    doesn't know.

    >>> from diptych.families.clip.layouts.open_clip_config import read_image
    >>> read_image({"layers": 12, "width": 768, "patch_size": 32}).image_size
    224
    """
    return _tower(dict(vision), "gelu", ImageTowerConfig, "vision_cfg")


def modern(model: dict[str, Any]) -> dict[str, Any]:
    """A `model_cfg` in today's words (`OpenClipTower.modern`)."""
    for kind in open_clip_towers():
        model = kind.modern(model)
    return model


def _texts(
    model: dict[str, Any], vision: dict[str, Any], one: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The sections of the text tower and of the decoder, taken out of a `model_cfg`; they may be
    one."""
    decoder = model.pop("multimodal_cfg", None)
    if one:
        both = dict(decoder) | {"vision_cfg": vision}
        return both, dict(both)
    return dict(model.pop("text_cfg")), None if decoder is None else dict(decoder)


def _tower(
    cfg: dict[str, Any], quick: Activation, base: type[T], section: str, one: bool = False
) -> T:
    """The tower of this section, by the first kind that knows it. `one`: see
    `OpenClipTower.one_section`."""
    for name in OF_TOKENIZER:  # see `open_clip_inputs`
        cfg.pop(name, None)
    if not cfg.pop("attn_mask", True):
        raise CheckpointError(
            f"{section}.attn_mask = False has no place in a Diptych model: its text towers are "
            "causal"
        )
    for kind in open_clip_towers():
        if not issubclass(kind.kind, base) or kind.one_section != one:
            continue
        found = kind.read(cfg, quick)
        if isinstance(found, base):
            refuse_rest(cfg, section)
            return found
    raise CheckpointError(f"{section} describes no tower that Diptych knows")


def _decoder(
    cfg: dict[str, Any], quick: Activation, text: dict[str, Any], one: bool
) -> DecoderConfig:
    """Its vocabulary is the text tower's, whatever it says."""
    cfg["vocab_size"] = text.get("vocab_size", 49408)
    return _tower(cfg, quick, DecoderConfig, "multimodal_cfg", one)


def _pictures(image: ImageTowerConfig, side: Any, budget: Any) -> dict[str, Any]:
    """What pictures are for this tower, whatever is said of them. One for pictures of their own
    aspect takes squares of `side` pixels, too, in open_clip: they have as many patches as are meant
    where no `budget` is said."""
    fixed = tower_of(image).pictures(image)
    if not image.native:
        refuse_rest({_BUDGET: budget}, "vision_cfg")
        return fixed
    patches = (side // fixed["patch_size"]) ** 2 if budget is None else budget
    return fixed | {"patches": patches}


def to_json(config: ClipConfig) -> dict[str, Any]:
    """What open_clip reads. Raises CheckpointError for what it can't express."""
    return {
        "model_cfg": model_json(config),
        "preprocess_cfg": preprocess_json(config.preprocess),
    }


def model_json(config: ClipConfig) -> dict[str, Any]:
    """Its `model_cfg` alone. Raises as `to_json`."""
    image, text, *others = parts = parts_of(config)
    if text.one_section != any(decoder.one_section for decoder in others):
        beside = "no decoder" if config.decoder is None else f"a {type(config.decoder).__name__}"
        raise CheckpointError(
            f"open_clip has no place for a {type(config.text).__name__} with {beside}"
        )
    vision_cfg, text_cfg = image.write(config.image), text.write(config.text)
    if config.image.native:
        how = config.preprocess
        side = math.isqrt(how.patches) * how.patch_size
        vision_cfg |= {"image_size": side, _BUDGET: how.patches}
    configs = (config.image, config.text, config.decoder)
    chosen = {part.activation(each) for part, each in zip(parts, configs)} - {None}
    # GELU's approximation is an option of each tower.
    quick = {activation == "quick_gelu" for activation in chosen}
    if len(quick) > 1:
        raise CheckpointError("open_clip has one activation for all towers, and this model has two")
    text_cfg |= tokenizer_json(config.tokenizer)
    model: dict[str, Any] = {"embed_dim": config.embed_dim, "vision_cfg": vision_cfg}
    written = [decoder.write(config.decoder) for decoder in others]
    if text.one_section:
        for part in written:
            vision_cfg |= part.pop("vision_cfg", {})
            text_cfg |= part
        model["multimodal_cfg"] = text_cfg
    else:
        model["text_cfg"] = text_cfg
    if True in quick:
        model["quick_gelu"] = True
    if config.logit_bias is not None:
        model["init_logit_bias"] = config.logit_bias
    if text.one_section:
        return model
    for part in written:
        model["multimodal_cfg"] = part
        # open_clip builds the decoder by the text tower's vocabulary, and asks both for tokens.
        text_cfg["vocab_size"] = part["vocab_size"]
        vision_cfg["output_tokens"] = text_cfg["output_tokens"] = True
    if is_custom(config):
        model["custom_text"] = True
    return model


def is_custom(config: ClipConfig) -> bool:
    """Whether open_clip builds this model as its `CustomTextCLIP`, or as its `CoCa`."""
    towers = (tower_of(tower).custom_text(tower) for tower in (config.image, config.text))
    return config.decoder is not None or any(towers)


def parts_of(config: ClipConfig) -> list[OpenClipTower]:
    """How open_clip has the image tower, the text tower, and the decoder if there is one. Raises
    CheckpointError for one that it hasn't."""
    parts = [tower_of(config.image), tower_of(config.text)]
    return parts if config.decoder is None else [*parts, tower_of(config.decoder)]


def tower_of(config: TowerConfig) -> OpenClipTower:
    """How open_clip has this tower. Raises CheckpointError if it hasn't."""
    if not config.present:
        raise CheckpointError("open_clip's models have two towers, and this is one alone")
    found = next((tower for tower in open_clip_towers() if isinstance(config, tower.kind)), None)
    if found is None:
        raise CheckpointError(f"open_clip has no place for a {type(config).__name__}")
    return found
