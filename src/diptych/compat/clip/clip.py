"""The spellings of the `clip` package: OpenAI's (https://github.com/openai/CLIP), and that of
EVA-01-CLIP's README (https://github.com/baaivision/EVA, EVA-01/clip).

    from diptych.compat import clip

    model, preprocess = clip.load("ViT-B/32")
    text = clip.tokenize(["a diagram", "a dog"])
    logits_per_image, logits_per_text = model(preprocess(picture)[None], text)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diptych.compat.clip.simple_tokenizer import SimpleTokenizer
from diptych.compat.faces.openai_model import LogitsModel
from diptych.compat.faces.tracing import trace_model
from diptych.compat.factory import create_model_from_pretrained
from diptych.compat.listing import openai_url
from diptych.compat.loading import places
from diptych.compat.loading.openai_state import clip_at, clip_of
from diptych.compat.pretrained import download_pretrained_from_url
from diptych.compat.transform import MaybeConvertMode, Transform, transform_of
from diptych.config import PreprocessConfig
from diptych.encoder.load import device_of
from diptych.errors import TextTooLongError
from diptych.inputs import ClipTokenizer

__all__ = [
    "available_models",
    "build_eva_model_and_transforms",
    "build_model",
    "create_model_and_transforms",
    "load",
    "tokenize",
]

_OPENAIS = (
    *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),
    *("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"),
)
_MODELS = {name: openai_url(name.replace("/", "-").replace("@336px", "-336")) for name in _OPENAIS}
"""Where OpenAI's own files lie, by the names of `load`."""


def _download(  # pyright: ignore[reportUnusedFunction]: scripts call it
    url: str, root: str | Path | None = None
) -> str:
    """The path of a file of `_MODELS` in `root`: see `compat.download_pretrained_from_url`."""
    return download_pretrained_from_url(url, root)


def __getattr__(name: str) -> Any:
    """`_tokenizer`, which scripts read; it is made when it is asked for."""
    if name == "_tokenizer":
        return SimpleTokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _transform(  # pyright: ignore[reportUnusedFunction]: scripts call it
    n_px: int,
) -> Transform:
    """What `load` gives beside a model for pictures of so many pixels."""
    return transform_of(PreprocessConfig(), n_px)


_convert_image_to_rgb = MaybeConvertMode("RGB")
"""RGB of a Pillow picture, for transforms of one's own."""


def build_model(state_dict: Mapping[str, Tensor]) -> LogitsModel:
    """The model of an OpenAI state dict, in float32 and evaluation mode. Raises CheckpointError for
    one of another kind."""
    return LogitsModel.of(clip_of(state_dict)).eval()


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
) -> tuple[Any, Transform]:
    """The model, whose forward pass gives logits (`LogitsModel`), and its transform: OpenAI's
    weights of a name such as `ViT-B/32`, a file or a folder of any layout, `hf-hub:org/name`.
    `device` None: the GPU if there is one, where the towers are in half precision, as OpenAI's are.

    Weights that don't say it have QuickGELU, the only activation of OpenAI's code. `jit`: as
    TorchScript, see `compat.trace_model`. Raises as `compat.create_model`.
    """
    source = places.find(name, places.openai_or_first(str(name)), download_root)
    place = device_of(device)
    clip = clip_at(source, place, torch.float16 if place.type == "cuda" else torch.float32)
    model = LogitsModel.of(clip).eval()
    made = trace_model(model, 1, place) if jit else model
    return made, transform_of(clip.config.preprocess, clip.config.image.image_size)


def build_eva_model_and_transforms(
    model_name: str | Path, pretrained: str | Path | None = None, **options: Any
) -> tuple[LogitsModel, Transform]:
    """The model, whose forward pass gives logits, and its transform. `options` are
    `compat.create_model`'s.

    Raises as that does.
    """
    model, preprocess = create_model_from_pretrained(model_name, pretrained, **options)
    return LogitsModel.of(model.clip).eval(), preprocess


create_model_and_transforms = build_eva_model_and_transforms
"""The name in the README's second example."""


class _OpenaisTokenizer(ClipTokenizer):
    special = MappingProxyType({"<|startoftext|>": 49406, "<|endoftext|>": 49407})


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
) -> Int[Tensor, "texts length"]:
    """CLIP's ids of texts, padded to `context_length`. Raises TextTooLongError, which is a
    RuntimeError, too, for a longer text unless `truncate`.

    >>> from diptych.compat import clip
    >>> clip.tokenize(["a diagram", "a dog"]).shape
    torch.Size([2, 77])
    """
    tokenizer = _OpenaisTokenizer(context_length)
    for text in [texts] if isinstance(texts, str) else texts:
        length = tokenizer.length(text)
        if length > context_length and not truncate:
            raise TextTooLongError(
                f"{text[:40]!r}… has {length} tokens of {context_length}; "
                "shorten it or set truncate=True"
            )
    return tokenizer(texts, pad_to=context_length)


def available_models() -> list[str]:
    """What `load` takes as names of OpenAI's weights.

    >>> from diptych.compat import clip
    >>> clip.available_models()[-2:]
    ['ViT-L/14', 'ViT-L/14@336px']
    """
    return list(_OPENAIS)
