"""open_clip's and eva_clip's spellings over this engine: their snippets run after changing the
import line.

    from diptych.compat import create_model_and_transforms, get_tokenizer

`diptych.compat.clip` has those of OpenAI's and EVA-01's `clip` package,
`diptych.compat.transformers` the classes of exported EVA-CLIP folders. What differs, and why,
stands in docs/compat.md.
"""

from diptych.compat.clip import build_eva_model_and_transforms
from diptych.compat.factory import (
    create_model,
    create_model_and_transforms,
    create_model_from_pretrained,
    list_models,
)
from diptych.compat.model import OpenClipModel
from diptych.compat.tokenize import decode, get_tokenizer, tokenize

__all__ = [
    "OpenClipModel",
    "build_eva_model_and_transforms",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "decode",
    "get_tokenizer",
    "list_models",
    "tokenize",
]
