"""open_clip's JSON, and EVA-CLIP's, which is a dialect of it, <-> ClipConfig.

An option that our towers don't have is refused, never dropped.
"""

import math
from typing import Any, TypeVar

from diptych.config import (
    Activation,
    ClipConfig,
    DecoderConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TokenizerConfig,
    TowerConfig,
)
from diptych.config.model import Cleaning
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.towers import OpenClipTower, open_clip_towers

T = TypeVar("T", bound=TowerConfig)

_HARMLESS = {
    "output_tokens",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "eos_id",
    "pad_id",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "patch_dropout",
    "hf_model_pretrained",
    "init_logit_scale",
    "nonscalar_logit_scale",
    "custom_text",
    "output_dict",
    "fusedLN",
    "xattn",
}
"""Training, loading and output options, and kernels: they don't change the features."""
_ONLY = {
    "pool_type": ("tok", "argmax"),
    "proj_type": ("linear",),
    "timm_proj": ("linear",),
    "pos_embed_type": ("learnable", "sin_cos_2d"),
    "block_type": ("default",),
}
"""Options of which our towers have one value; every other option must be off."""
_BUDGET = "image_seq_len"
"""Of a `vision_cfg` of open_clip's main branch: the most patches of a picture."""

_TIKTOKEN = "tiktoken"
_OF_TOKENIZER = (
    *("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "tokenizer_type"),
    *("tiktoken_name", "tiktoken_bpe_path", "tiktoken_config_path"),
)
"""Of a `text_cfg`: what isn't about the tower. Files of an encoding lie where `inputs` looks."""
_CLEANING: dict[str, Cleaning] = {
    "whitespace": "spaces",
    "lower": "lower",
    "canonicalize": "canonical",
    "none": "none",
}
"""Of `tokenizer_kwargs`, and what `TokenizerConfig.clean` calls it."""
_CLASS_LAST = "clips"
"""The `tokenizer_mode` that `TokenizerConfig.class_last` is."""
_FREE = {"bos_token": "[unused0]", "eos_token": "[unused1]"}
"""What transformers has to be told of its start and its end: BERT's tokenizer has none."""


def from_json(content: dict[str, Any]) -> ClipConfig:
    """The configuration that `model_cfg` and `preprocess_cfg` say.

    Raises CheckpointError for what is missing and for options that Diptych doesn't know, naming the
    first.
    """
    try:
        model = modern(dict(content.get("model_cfg") or {}))
        embed_dim, vision = model.pop("embed_dim"), dict(model.pop("vision_cfg"))
        one = "multimodal_cfg" in model and "text_cfg" not in model
        text, decoder = _texts(model, dict(vision), one)
        quick: Activation = "quick_gelu" if model.pop("quick_gelu", False) else "gelu"
        bias = model.pop("init_logit_bias", None)
        budget, side = vision.pop(_BUDGET, None), vision.get("image_size", 224)
        _refuse_rest(model, "model_cfg")
        image = _tower(vision, quick, ImageTowerConfig, "vision_cfg")
        config = ClipConfig(
            image=image,
            text=_tower(
                dict(text), quick, TextTowerConfig, "multimodal_cfg" if one else "text_cfg", one
            ),
            embed_dim=embed_dim,
            logit_bias=None if bias is None else float(bias),
            preprocess=_preprocess(
                content.get("preprocess_cfg") or {}, _pictures(image, side, budget)
            ),
            tokenizer=_tokenizer(text),
            decoder=None if decoder is None else _decoder(decoder, quick, text, one),
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except KeyError as error:
        raise CheckpointError(f"the configuration has no {error}") from error
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"the configuration doesn't describe a model: {error}") from error


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
    for name in _OF_TOKENIZER:  # see `_tokenizer`
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
            _refuse_rest(cfg, section)
            return found
    raise CheckpointError(f"{section} describes no tower that Diptych knows")


def _decoder(
    cfg: dict[str, Any], quick: Activation, text: dict[str, Any], one: bool
) -> DecoderConfig:
    """Its vocabulary is the text tower's, whatever it says."""
    cfg["vocab_size"] = text.get("vocab_size", 49408)
    return _tower(cfg, quick, DecoderConfig, "multimodal_cfg", one)


def _tokenizer(cfg: dict[str, Any]) -> TokenizerConfig:
    name, options = cfg.get("hf_tokenizer_name"), dict(cfg.get("tokenizer_kwargs") or {})
    tiktoken = cfg.get("tokenizer_type") == _TIKTOKEN
    clean = options.pop("clean", "none" if tiktoken else "whitespace")
    if clean not in _CLEANING:
        raise CheckpointError(f"text_cfg.tokenizer_kwargs.clean = {clean!r} is unknown")
    blank = options.pop("strip_sep_token", False)
    mode = cfg.get("tokenizer_mode") or ""
    if mode == _CLASS_LAST:
        options = {word: value for word, value in options.items() if value != _FREE.get(word)}
    _refuse_rest(options, "text_cfg.tokenizer_kwargs")
    if mode not in ("", _CLASS_LAST, *_own_tokenizers()):
        raise CheckpointError(f"text_cfg.tokenizer_mode = {mode!r} has no place in a Diptych model")
    if tiktoken:
        encoding = cfg.get("tiktoken_name", "cl100k_base")
        return TokenizerConfig(kind="tiktoken", name=encoding, clean=_CLEANING[clean])
    if own := _own_tokenizers().get(name or ""):
        return own
    if not name:
        return TokenizerConfig()
    return TokenizerConfig(
        kind="huggingface",
        name=name,
        clean=_CLEANING[clean],
        blank_separator=blank and mode != _CLASS_LAST,
        class_last=mode == _CLASS_LAST,
    )


def _own_tokenizers() -> dict[str, TokenizerConfig]:
    """Those that no folder and no repository is called as."""
    found: dict[str, TokenizerConfig] = {}
    for tower in open_clip_towers():
        found |= tower.tokenizers
    return found


def _tokenizer_json(how: TokenizerConfig) -> dict[str, Any]:
    """What a `text_cfg` says of a tokenizer; nothing of CLIP's."""
    clean = {ours: name for name, ours in _CLEANING.items()}[how.clean]
    if how.kind == "tiktoken":
        said = {"tokenizer_type": _TIKTOKEN, "tiktoken_name": how.name}
        return said if clean == "none" else said | {"tokenizer_kwargs": {"clean": clean}}
    if how.kind != "huggingface":
        return {}
    own = next((name for name, known in _own_tokenizers().items() if known == how), None)
    if own is not None:
        return {"hf_tokenizer_name": own, "tokenizer_mode": own}
    blank = {"strip_sep_token": True} if how.blank_separator else {}
    blank = _FREE if how.class_last else blank
    mode = {"tokenizer_mode": _CLASS_LAST} if how.class_last else {}
    return {"hf_tokenizer_name": how.name, "tokenizer_kwargs": {"clean": clean} | blank} | mode


def _pictures(image: ImageTowerConfig, side: Any, budget: Any) -> dict[str, Any]:
    """What pictures are for this tower, whatever is said of them. One for pictures of their own
    aspect takes squares of `side` pixels, too, in open_clip: they have as many patches as are meant
    where no `budget` is said."""
    fixed = tower_of(image).pictures(image)
    if not image.native:
        _refuse_rest({_BUDGET: budget}, "vision_cfg")
        return fixed
    patches = (side // fixed["patch_size"]) ** 2 if budget is None else budget
    return fixed | {"patches": patches}


def _preprocess(cfg: dict[str, Any], fixed: dict[str, Any]) -> PreprocessConfig:
    known = {
        "interpolation": "interpolation",
        "resize_mode": "resize",
        "fill_color": "fill",
        "mean": "mean",
        "std": "std",
    }
    values: dict[str, Any] = {
        ours: cfg[theirs] for theirs, ours in known.items() if cfg.get(theirs) is not None
    }
    if values.get("interpolation") == "random":
        del values["interpolation"]  # in training only; open_clip then evaluates with bicubic
    for name in ("mean", "std"):
        if name in values:
            values[name] = tuple(values[name])
    return PreprocessConfig(**values | fixed)


def _refuse_rest(cfg: dict[str, Any], section: str) -> None:
    for name, value in cfg.items():
        if value and name not in _HARMLESS and value not in _ONLY.get(name, ()):
            raise CheckpointError(f"{section}.{name} = {value!r} has no place in a Diptych model")


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
    text_cfg |= _tokenizer_json(config.tokenizer)
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


def preprocess_json(image: PreprocessConfig) -> dict[str, Any]:
    """Its `preprocess_cfg` alone. Raises as `to_json`."""
    if image.crop_share != 1:
        raise CheckpointError(
            "open_clip crops all of the resized picture's shorter side; "
            "preprocess.crop_share must be 1"
        )
    return {
        "mean": list(image.mean),
        "std": list(image.std),
        "interpolation": image.interpolation,
        # What open_clip makes a picture of its own aspect a square by, where it has to be one.
        "resize_mode": "squash" if image.resize == "native" else image.resize,
        "fill_color": image.fill,
    }


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
