"""The spellings of the `clip` package in EVA-01-CLIP's README (https://github.com/baaivision/EVA,
EVA-01/clip).

    from diptych.compat import clip

    model, preprocess = clip.build_eva_model_and_transforms("EVA_CLIP_g_14", "eva_clip_psz14.pt")
    text = clip.tokenize(["a diagram", "a dog"])
    logits_per_image, logits_per_text = model(preprocess(picture)[None], text)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from diptych.compat.factory import create_model_from_pretrained, list_models
from diptych.compat.model import LogitsModel
from diptych.errors import ConfigError
from diptych.inputs import ClipTokenizer, Preprocess

__all__ = [
    "available_models",
    "build_eva_model_and_transforms",
    "create_model_and_transforms",
    "tokenize",
]

_LONGEST = 1 << 16


def build_eva_model_and_transforms(
    model_name: str | Path, pretrained: str | Path | None = None, **options: Any
) -> tuple[LogitsModel, Preprocess]:
    """The model, whose forward pass gives logits, and its transform. `options` are
    `compat.create_model`'s.

    Raises as that does.
    """
    model, preprocess = create_model_from_pretrained(model_name, pretrained, **options)
    return LogitsModel(model.clip), preprocess


create_model_and_transforms = build_eva_model_and_transforms
"""The name in the README's second example."""


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
) -> Int[Tensor, "texts length"]:
    """CLIP's ids of texts, padded to `context_length`. Raises ConfigError for a longer text unless
    `truncate`.

    >>> from diptych.compat import clip
    >>> clip.tokenize(["a diagram", "a dog"]).shape
    torch.Size([2, 77])
    """
    whole = ClipTokenizer(_LONGEST)
    for text in [texts] if isinstance(texts, str) else texts:
        length = len(whole.encode(text))
        if length > context_length and not truncate:
            raise ConfigError(
                f"{text[:40]!r}… has {length} tokens of {context_length}; "
                "shorten it or set truncate=True"
            )
    return ClipTokenizer(context_length)(texts, pad_to=context_length)


def available_models() -> list[str]:
    """Names of models of two towers."""
    return list_models()
