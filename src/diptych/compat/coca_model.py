"""open_clip's class of the models that write captions.

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diptych.compat.faces import outside_pools
from diptych.compat.faces.names import VISUAL, part_of
from diptych.compat.faces.towers import OpenClipVisual
from diptych.compat.faces.writing import CaptioningModel, read_tokens
from diptych.compat.loading.settings import settle
from diptych.compat.losses.captions import caption_losses
from diptych.compat.model import (
    CLIPTextCfg,
    CLIPVisionCfg,
    build_clip,
    section,
)
from diptych.compat.model_traits import COCA_TRAITS
from diptych.compat.parts.layers import LayerNorm as LayerNorm
from diptych.compat.parts.layers import LayerNormFp32 as LayerNormFp32
from diptych.compat.parts.layers import QuickGELU as QuickGELU
from diptych.compat.parts.modern import ModernTextTransformer
from diptych.compat.parts.multimodal import MultimodalTransformer as MultimodalTransformer
from diptych.compat.parts.text import TextTransformer
from diptych.errors import ConfigError
from diptych.families.coca import Coca2ImageConfig, CocaNaflexConfig
from diptych.families.modern import ModernDecoderConfig, ModernTextConfig
from diptych.models import Clip, Tower
from diptych.models.clip import unit


@dataclass
class MultimodalCfg(CLIPTextCfg):
    """A `multimodal_cfg`; the fields and defaults are open_clip's. From `cross_attn_ratio` on they
    are its main branch's."""

    mlp_ratio: float = 4
    dim_head: int = 64
    heads: int = 8
    n_queries: int = 256
    attn_pooler_heads: int = 8
    cross_attn_ratio: int = 1
    use_pad_mask: bool = True
    pool_type: str = "avg"
    proj_type: str = "none"
    tie_lm_head: bool = False
    has_mlp: bool = True
    """Of LAION's fork alone: see `MultimodalDecoder`."""


class CoCa(CaptioningModel):
    """Two towers and `text_decoder`, with random weights; the options are `CLIP`'s, and `pad_id`,
    what `generate` fills up with (0: as the text tower has it).

    Over a tower of timm's for pictures of their own aspect, which open_clip's main branch has, the
    pools stand beside `visual`: see `faces.outside_pools`. Raises ConfigError for such a tower that
    gives no tokens (`output_tokens`), or without `attentional_pool`.
    """

    traits = COCA_TRAITS
    _pad_id: int | None = None
    pool_norm: Any
    attn_pool: Any
    attn_pool_contrastive: Any
    attn_pool_type = ""
    """Of pools that stand here: "cascade", or "parallel"."""

    def _add_towers(self, clip: Clip) -> None:
        """Texts first, as open_clip has them."""
        self._add_text(clip.text)
        self._add_image(clip.image)

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
        vision = section(vision_cfg, CLIPVisionCfg)
        text = section(text_cfg, CLIPTextCfg)
        _check_tokens(vision)
        clip = build_clip(
            {
                "embed_dim": embed_dim,
                "vision_cfg": vision,
                "text_cfg": text,
                "multimodal_cfg": section(multimodal_cfg, MultimodalCfg),
                "quick_gelu": quick_gelu,
                "init_logit_bias": init_logit_bias,
            },
            init_logit_scale,
        )
        super().__init__(clip)
        settle(self, {"vision_cfg": vision, "text_cfg": text})
        self._pad_id = pad_id or None
        if nonscalar_logit_scale:
            self.reshape_scale(1)

    def _add_image(self, tower: Tower[Any]) -> None:
        """`visual`, and pools beside it."""
        if not isinstance(tower.config, CocaNaflexConfig):
            super()._add_image(tower)
            self.pool_norm = self.attn_pool = self.attn_pool_contrastive = None
            return
        config: CocaNaflexConfig = tower.config
        trunk = outside_pools.trunk_of(tower)
        self.visual = OpenClipVisual(trunk, self.config, outside_pools.TRUNK)
        self.visual.output_tokens = True
        self._parts[VISUAL] = outside_pools.TRUNK
        self.attn_pool_type = config.pools
        for name, part in outside_pools.parts_of(tower, part_of(self.table, "image.", "")).items():
            setattr(self, name, part)

    def image_again(self) -> Tower[Any]:
        """See `OpenClipModel.image_again`."""
        if self.attn_pool is None:
            return super().image_again()
        table = part_of(self.table, "image.", "")
        parts = {name: getattr(self, name) for name in outside_pools.PARTS}
        return outside_pools.tower_again(self.config, self.visual.tower, parts, table)

    def encode_image(
        self, image: Tensor | Mapping[str, Any], normalize: bool | None = None
    ) -> Tensor:
        """See `OpenClipModel.encode_image`."""
        if self.attn_pool is None:
            return super().encode_image(image, normalize)
        return self._scaled(self._pools(image)[0], normalize)

    def _pools(self, image: Tensor | Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """What `attn_pool_contrastive` and `attn_pool` read of the trunk's tokens."""
        _, tokens, seen = read_tokens(self.visual(image))
        tokens = self.pool_norm(tokens)
        read = self.attn_pool(tokens, key_valid=seen)
        if self.attn_pool_type == "cascade":
            return self.attn_pool_contrastive(read)[:, 0], read
        return self.attn_pool_contrastive(tokens, key_valid=seen)[:, 0], read

    def picture(self, image: Tensor | Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `CaptioningModel.picture`."""
        if self.attn_pool is None:
            return super().picture(image)
        pooled, tokens = self._pools(image)
        return unit(pooled), tokens, None

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image: Tensor | Mapping[str, Any] | None = None,
        text: Tensor | None = None,
        image_latent: Tensor | None = None,
        image_embs: Tensor | None = None,
        output_labels: bool | None = None,
        text_valid: Tensor | None = None,
        labels: Tensor | None = None,
        caption_z_loss: bool = False,
        caption_loss_compute_dtype: Any = torch.float32,
        caption_loss_chunk_size: int = 4096,
    ) -> dict[str, Tensor]:
        """Unit vectors of pictures and texts, and `logits` of the token behind each place; of
        pictures alone their vectors and tokens, of texts alone their vectors. `text_valid`: see
        `encode_text`.

        `output_labels`: whether `labels` are beside the `logits`, which are one place shorter then;
        None: as in open_clip 3.3, yes, and where only its main branch has the model (two pools,
        modern texts) or the call (`text_valid`) no, as there.

        `labels`, [batch, length - 1], -100 where nothing is to be written: the means
        `caption_loss_ce`, and with `caption_z_loss` `caption_loss_z`, in place of the logits; see
        `fused_linear_cross_entropy`."""
        if image is not None and (image_latent is None or image_embs is None):
            image_latent, image_embs, _ = self.picture(image)
        found = {} if image_latent is None else {"image_features": image_latent}
        if text is None:
            return found if image_embs is None else found | {"image_embs": image_embs}
        options = {} if text_valid is None else {"text_valid": text_valid}
        found["text_features"], tokens, _ = read_tokens(self.text(text, **options))
        if image_embs is None:
            return found
        scales = {"logit_scale": self.logit_scale.exp()}
        biases = {} if self.logit_bias is None else {"logit_bias": self.logit_bias}
        decoder = self.text_decoder
        if labels is not None:
            return (
                found
                | scales
                | biases
                | caption_losses(
                    decoder(image_embs, tokens, return_hidden=True),
                    labels,
                    decoder.lm_head_params,
                    chunk_size=caption_loss_chunk_size,
                    z_loss=caption_z_loss,
                    compute_dtype=caption_loss_compute_dtype,
                )
            )
        if output_labels is None:
            output_labels = self._known_to_3_3 and text_valid is None
        if output_labels:  # in open_clip's order
            logits = decoder(image_embs, tokens[:, :-1])
            return found | {"logits": logits} | scales | {"labels": text[:, 1:]} | biases
        return found | {"logits": decoder(image_embs, tokens)} | scales | biases

    def caption_logits(
        self, text: Tensor, image_embs: Tensor, seen: Tensor | None = None
    ) -> Tensor:
        """See `CaptioningModel`."""
        _, tokens, _ = read_tokens(self.text(text))
        return self.text_decoder(image_embs, tokens)

    @property
    def _known_to_3_3(self) -> bool:
        image, text, decoder = self.config.image, self.config.text, self.config.decoder
        new = Coca2ImageConfig | CocaNaflexConfig | ModernTextConfig | ModernDecoderConfig
        return not any(isinstance(each, new) for each in (image, text, decoder))

    @property
    def pad_id(self) -> int:
        """What `generate` fills up with: as it was given, else as the text tower has it."""
        text: Any = self.text
        own = isinstance(text, TextTransformer | ModernTextTransformer)
        if self._pad_id is not None or not own:
            return self._pad_id or 0
        return text.pad_id or 0

    @pad_id.setter
    def pad_id(self, value: int) -> None:
        self._pad_id = value


def _check_tokens(vision: Mapping[str, Any]) -> None:
    """Raises ConfigError for a tower of timm's whose tokens nothing could read."""
    if not vision.get("timm_model_name"):
        return
    if not vision.get("output_tokens"):
        raise ConfigError(
            "CoCa over a tower of timm's needs vision_cfg.output_tokens=True: its pools read tokens"
        )
    if vision.get("attentional_pool") not in ("cascade", "parallel"):
        raise ConfigError(
            "CoCa over a tower of timm's needs vision_cfg.attentional_pool 'cascade' or 'parallel'"
        )


def prepare_inputs_for_generation(
    input_ids: Int[Tensor, "batch length"],
    image_inputs: Any,
    past: Any = None,
    attention_mask: Int[Tensor, "batch length"] | None = None,
    position_ids: Any = None,
) -> dict[str, Any]:
    """A step's inputs under the names of a model that writes captions: of a text of which the
    tokens before are computed (`past`), the last one alone. `attention_mask` says the places of
    tokens, 1 for what is padding, unless they are given; those are passed over.

    >>> import torch
    >>> from diptych.compat.coca_model import prepare_inputs_for_generation
    >>> ids, mask = torch.tensor([[0, 5, 6]]), torch.tensor([[0, 1, 1]])
    >>> prepare_inputs_for_generation(ids, None, attention_mask=mask)["position_ids"]
    tensor([[1, 0, 1]])
    """
    places = None
    if attention_mask is not None and position_ids is None:
        counted = attention_mask.long().cumsum(-1) - 1
        places = counted.masked_fill(attention_mask == 0, 1)
    return {
        "text": input_ids[:, -1:] if past else input_ids,
        "images": image_inputs,
        "past_key_values": past,
        "position_ids": places,
        "attention_mask": attention_mask,
    }
