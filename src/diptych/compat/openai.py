"""OpenAI's weights by open_clip's spelling.

https://github.com/mlfoundations/open_clip, src/open_clip/openai.py
"""

from pathlib import Path

import torch

from diptych.compat.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from diptych.compat.faces.wrapping import wrap
from diptych.compat.factory import create_model
from diptych.compat.listing import list_openai_models
from diptych.compat.loading import places
from diptych.compat.loading.openai_state import clip_at
from diptych.compat.loading.precision import dtype_of
from diptych.compat.model import (
    OpenClipModel,
    build_model_from_openai_state_dict,
    convert_weights_to_lp,
    get_cast_dtype,
)
from diptych.compat.pretrained import (
    download_pretrained_from_url,
    get_pretrained_url,
    list_pretrained_models_by_tag,
)
from diptych.encoder.load import device_of
from diptych.errors import UnknownModelError

__all__ = [
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "build_model_from_openai_state_dict",
    "convert_weights_to_lp",
    "download_pretrained_from_url",
    "get_cast_dtype",
    "get_pretrained_url",
    "list_openai_models",
    "list_pretrained_models_by_tag",
    "load_openai_model",
]


def load_openai_model(
    name: str | Path,
    precision: str | None = None,
    device: str | torch.device | None = None,
    cache_dir: str | Path | None = None,
) -> OpenClipModel:
    """OpenAI's weights of a name of `list_openai_models`, or a file or folder, with open_clip's
    face. `device` None: the GPU if there is one; `precision` None: `fp32` on a CPU, else `fp16`.
    Weights that don't say it have QuickGELU, the only activation of OpenAI's code.

    Raises UnknownModelError for a model of which OpenAI published no weights, and else as
    `create_model`.
    """
    place, known = device_of(device), list_openai_models()
    precision = precision or ("fp32" if place.type == "cpu" else "fp16")
    if places.is_place(str(name)):
        source = places.find(name, None, cache_dir)
        return wrap(clip_at(source, place, dtype_of(precision))).eval()
    if str(name) not in known:
        raise UnknownModelError("model of OpenAI's", str(name), known)
    return create_model(name, "openai", precision, place, cache_dir=cache_dir)
