"""What open_clip's JSON says of a model's inputs: its tokenizer, and how pictures are made."""

from typing import Any

from diptych.config import PreprocessConfig, TokenizerConfig
from diptych.config.model import Cleaning
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip_options import refuse_rest
from diptych.families.clip.layouts.towers import open_clip_towers

_TIKTOKEN = "tiktoken"
OF_TOKENIZER = (
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


def read_tokenizer(cfg: dict[str, Any]) -> TokenizerConfig:
    """The one that a `text_cfg` means. Raises CheckpointError for one that isn't here."""
    name, options = cfg.get("hf_tokenizer_name"), dict(cfg.get("tokenizer_kwargs") or {})
    tiktoken = cfg.get("tokenizer_type") == _TIKTOKEN
    clean = options.pop("clean", "none" if tiktoken else "whitespace")
    if clean not in _CLEANING:
        raise CheckpointError(f"text_cfg.tokenizer_kwargs.clean = {clean!r} is unknown")
    blank = options.pop("strip_sep_token", False)
    mode = cfg.get("tokenizer_mode") or ""
    if mode == _CLASS_LAST:
        options = {word: value for word, value in options.items() if value != _FREE.get(word)}
    refuse_rest(options, "text_cfg.tokenizer_kwargs")
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


def tokenizer_json(how: TokenizerConfig) -> dict[str, Any]:
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


def read_preprocess(cfg: dict[str, Any], fixed: dict[str, Any]) -> PreprocessConfig:
    """The one that a `preprocess_cfg` means; `fixed` is so whatever it says."""
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
            values[name] = tuple(read_as(list[float], values[name], f"preprocess_cfg.{name}"))
    return PreprocessConfig(**values | fixed)


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
