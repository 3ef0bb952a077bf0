"""open_clip's class of the models that write captions.

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.compat.face import OpenClipModel
from diptych.compat.model import (
    CLIPTextCfg,
    CLIPVisionCfg,
    build_clip,
    section,
)


@dataclass
class MultimodalCfg(CLIPTextCfg):
    """A `multimodal_cfg`; the fields and defaults are open_clip's."""

    mlp_ratio: float = 4
    dim_head: int = 64
    heads: int = 8
    n_queries: int = 256
    attn_pooler_heads: int = 8


class CoCa(OpenClipModel):
    """Two towers and `text_decoder`, with random weights; the options are `CLIP`'s."""

    def __init__(
        self,
        embed_dim: int,
        multimodal_cfg: MultimodalCfg | dict[str, Any],
        text_cfg: CLIPTextCfg | dict[str, Any],
        vision_cfg: CLIPVisionCfg | dict[str, Any],
        quick_gelu: bool = False,
        init_logit_scale: float = math.log(1 / 0.07),
        init_logit_bias: float | None = None,
        nonscalar_logit_scale: bool = False,
        cast_dtype: torch.dtype | None = None,
        pad_id: int = 0,
    ):
        clip = build_clip(
            {
                "embed_dim": embed_dim,
                "vision_cfg": section(vision_cfg, CLIPVisionCfg),
                "text_cfg": section(text_cfg, CLIPTextCfg),
                "multimodal_cfg": section(multimodal_cfg, MultimodalCfg),
                "quick_gelu": quick_gelu,
                "init_logit_bias": init_logit_bias,
            },
            init_logit_scale,
        )
        super().__init__(clip)
        if nonscalar_logit_scale:
            self.reshape_scale(1)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image: Tensor,
        text: Tensor | None = None,
        image_latent: Tensor | None = None,
        image_embs: Tensor | None = None,
        output_labels: bool = True,
    ) -> dict[str, Tensor]:
        """Unit vectors of pictures and texts, `logits` of each next token, and with
        `output_labels`, which that was; of pictures alone their vectors and tokens."""
        if image_latent is None or image_embs is None:
            image_latent, image_embs = self.with_tokens(self.visual, image)
        if text is None:
            return {"image_features": image_latent, "image_embs": image_embs}
        text_latent, tokens = self.with_tokens(self.text, text)
        found = {"image_features": image_latent, "text_features": text_latent}
        assert self.text_decoder is not None
        found["logits"] = self.text_decoder(image_embs, tokens[:, :-1] if output_labels else tokens)
        found["logit_scale"] = self.logit_scale.exp()
        if output_labels:
            found["labels"] = text[:, 1:]
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found
