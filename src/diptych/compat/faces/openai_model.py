"""OpenAI's class of models.

https://github.com/openai/CLIP, clip/model.py
"""

import math
from typing import Any

from torch import Tensor, nn

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.model import build_clip
from diptych.compat.parts import openai
from diptych.compat.parts.stack import init_blocks
from diptych.compat.parts.text_parts import causal_mask


class LogitsModel(OpenClipModel):
    """`OpenClipModel` with the forward pass, the blocks and the constructor of the `clip` package,
    where it is `CLIP`: tokens are [length, batch, width], and a text's blocks know their mask.

    >>> import torch
    >>> from diptych.compat.clip.model import CLIP
    >>> model = CLIP(16, 32, 1, 64, 16, 77, 49408, 64, 1, 1)
    >>> model(torch.zeros(2, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long))[0].shape
    torch.Size([2, 1])
    """

    vision_kind = openai.VisionTransformer
    text_kind = openai.TextTransformer
    resnet_kind = openai.ModifiedResNet

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: int | tuple[int, int, int, int],
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
    ):
        """With random weights: a ResNet where `vision_layers` are four, else a vision transformer
        with patches of `vision_patch_size` pixels. Heads of pictures are of 64 channels. Raises
        CheckpointError for sizes that don't fit."""
        resnet = not isinstance(vision_layers, int)
        vision = {
            "image_size": image_resolution,
            "layers": list(vision_layers) if resnet else vision_layers,
            "width": vision_width,
        }
        text = {
            "context_length": context_length,
            "vocab_size": vocab_size,
            "width": transformer_width,
            "heads": transformer_heads,
            "layers": transformer_layers,
        }
        content = {
            "embed_dim": embed_dim,
            "vision_cfg": vision if resnet else vision | {"patch_size": vision_patch_size},
            "text_cfg": text,
            "quick_gelu": True,
        }
        super().__init__(build_clip(content, math.log(1 / 0.07)), custom_text=False)

    def initialize_parameters(self) -> None:
        """Fill the text's tables, blocks and projection anew, and a ResNet's pool, by CLIP's table:
        subclasses with parts of their own call it."""
        width = self.positional_embedding.shape[1]
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        init_blocks(self.transformer.resblocks, width)
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection, std=width**-0.5)
        if isinstance(self.visual, openai.ModifiedResNet):
            self.visual.init_parameters()

    def build_attention_mask(self) -> Tensor:
        """The causal mask of a text's blocks, [context_length, context_length]."""
        return causal_mask(self.context_length, self.positional_embedding.device)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, image: Tensor, text: Tensor
    ) -> Any:
        """`get_logits`."""
        return self.get_logits(image, text)
