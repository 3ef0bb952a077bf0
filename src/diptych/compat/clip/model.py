"""The parts of OpenAI's models, by the module of theirs where they are.

https://github.com/openai/CLIP, clip/model.py
"""

from diptych.compat.blocks import LayerNorm, QuickGELU, ResidualAttentionBlock, Transformer
from diptych.compat.clip.clip import build_model
from diptych.compat.face import LogitsModel as CLIP
from diptych.compat.precision import convert_weights_to_fp16 as convert_weights
from diptych.compat.vision import VisionTransformer

__all__ = [
    "CLIP",
    "LayerNorm",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
]
