"""open_clip's transformers and their parts, by the module of open_clip's where they are.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from torch import Tensor

from diptych.compat.parts.attention import (
    Attention,
    AttentionalPooler,
    context_attn_mask_from_valid,
)
from diptych.compat.parts.blocks import CustomResidualAttentionBlock, ResidualAttentionBlock
from diptych.compat.parts.layers import (
    LayerNorm,
    LayerNormFp32,
    LayerScale,
    PatchDropout,
    QuickGELU,
)
from diptych.compat.parts.modern import ModernMultimodalTransformer, ModernTextTransformer
from diptych.compat.parts.modern_blocks import ModernTextBlock, ModernTextDecoderBlock
from diptych.compat.parts.modern_layers import (
    ModernTextAttention,
    ModernTextCrossAttention,
    ModernTextPool,
    ReLUSquared,
    RotaryEmbedding1D,
    SwiGLU,
)
from diptych.compat.parts.modern_two_passes import ModernMultimodalDecoder
from diptych.compat.parts.multimodal import MultimodalTransformer
from diptych.compat.parts.stack import CustomTransformer, Transformer
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.text_parts import lock_text_tower, text_global_pool
from diptych.compat.parts.two_passes import MultimodalDecoder
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.utils import feature_take_indices, to_2tuple

__all__ = [
    "Attention",
    "AttentionalPooler",
    "CustomResidualAttentionBlock",
    "CustomTransformer",
    "LayerNorm",
    "LayerNormFp32",
    "LayerScale",
    "ModernMultimodalDecoder",
    "ModernMultimodalTransformer",
    "ModernTextAttention",
    "ModernTextBlock",
    "ModernTextCrossAttention",
    "ModernTextDecoderBlock",
    "ModernTextPool",
    "ModernTextTransformer",
    "MultimodalDecoder",
    "MultimodalTransformer",
    "PatchDropout",
    "QuickGELU",
    "ReLUSquared",
    "ResidualAttentionBlock",
    "RotaryEmbedding1D",
    "SwiGLU",
    "TextTransformer",
    "Transformer",
    "VisionTransformer",
    "_expand_token",
    "context_attn_mask_from_valid",
    "feature_take_indices",
    "lock_text_tower",
    "text_global_pool",
    "to_2tuple",
]


def _expand_token(token: Tensor, batch_size: int) -> Tensor:
    """[width] -> [batch_size, 1, width]; LLaVA-NeXT's tower imports it."""
    return token.view(1, 1, -1).expand(batch_size, -1, -1)
