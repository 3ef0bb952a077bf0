"""The parts of OpenAI's models, by the module of theirs where they are.

https://github.com/openai/CLIP, clip/model.py
"""

from diptych.compat.clip.clip import build_model
from diptych.compat.faces.openai_model import LogitsModel as CLIP
from diptych.compat.loading.precision import convert_weights_to_fp16 as convert_weights
from diptych.compat.modified_resnet import AttentionPool2d, Bottleneck
from diptych.compat.parts.layers import LayerNorm, QuickGELU
from diptych.compat.parts.openai import (
    ModifiedResNet,
    ResidualAttentionBlock,
    Transformer,
    VisionTransformer,
)

__all__ = [
    "AttentionPool2d",
    "Bottleneck",
    "CLIP",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
]
