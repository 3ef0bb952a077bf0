"""open_clip's transformers and their parts, by the module of open_clip's where they are.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from diptych.compat.blocks import (
    AttentionalPooler,
    LayerNorm,
    LayerNormFp32,
    PatchDropout,
    QuickGELU,
    ResidualAttentionBlock,
    Transformer,
    _expand_token,  # pyright: ignore[reportPrivateUsage]: LLaVA-NeXT's tower imports it
    text_global_pool,
)
from diptych.compat.text import TextTransformer
from diptych.compat.vision import VisionTransformer

__all__ = [
    "AttentionalPooler",
    "LayerNorm",
    "LayerNormFp32",
    "PatchDropout",
    "QuickGELU",
    "ResidualAttentionBlock",
    "TextTransformer",
    "Transformer",
    "VisionTransformer",
    "_expand_token",
    "text_global_pool",
]
