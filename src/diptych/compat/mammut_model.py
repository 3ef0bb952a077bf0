"""open_clip's class of the models whose one text decoder is used twice (MaMMUT, Kuo et al. 2023,
arXiv:2303.16839).

https://github.com/mlfoundations/open_clip, src/open_clip/mammut_model.py, main branch (June 2026)
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.coca_model import MultimodalCfg
from diptych.compat.faces.names import TEXT, part_of
from diptych.compat.faces.unwrapping import unwrap_two_passes
from diptych.compat.faces.writing import CaptioningModel
from diptych.compat.loading.settings import settle
from diptych.compat.losses.captions import caption_losses
from diptych.compat.model import CLIPVisionCfg, build_clip, section
from diptych.compat.model_traits import MAMMUT_TRAITS
from diptych.compat.parts.layers import activation_layer, norm_layer_of
from diptych.compat.parts.modern_two_passes import ModernMultimodalDecoder
from diptych.compat.parts.two_passes import MultimodalDecoder
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.families.clip.config import TransformerTextConfig
from diptych.families.clip.layouts.open_clip_config import model_json
from diptych.families.modern import TwoPassReadersConfig, TwoPassTextConfig
from diptych.models import Clip, Tower
from diptych.models.shapes import shapes_only

_PICTURES = "map_viz2txt_kv"
_HEAD = "lm_head"
_OF_CAPTIONS = {"cross_attn", "xattn", "norm_x", "norm_x_post", "ls_x"}
"""Parts of `text`, or of its blocks, that only captions need, beside a `lm_head` of its own."""


class MaMMUT(CaptioningModel):
    """An image tower, `visual`, and `text`, a `MultimodalDecoder` or of modern texts a
    `ModernMultimodalDecoder`, with random weights; the other
    options are `CLIP`'s. Vectors are of unit length.

    Raises ConfigError for a vector of another width than the texts' without a projection
    (`multimodal_cfg.proj_type`), and for an image tower that gives no tokens.

    >>> import torch
    >>> from diptych import compat
    >>> image = {"image_size": 32, "width": 64, "layers": 1, "output_tokens": True}
    >>> text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
    >>> model = compat.MaMMUT(32, multimodal_cfg=text, vision_cfg=image)
    >>> sorted(model(torch.rand(2, 3, 32, 32), torch.ones(2, 8).long()))
    ['image_features', 'logit_scale', 'logits', 'text_features']
    """

    traits = MAMMUT_TRAITS

    def __init__(
        self,
        embed_dim: int,
        multimodal_cfg: MultimodalCfg | dict[str, Any],
        vision_cfg: CLIPVisionCfg | dict[str, Any],
        quick_gelu: bool = False,
        init_logit_scale: float = math.log(1 / 0.07),
        init_logit_bias: float | None = None,
        nonscalar_logit_scale: bool = False,
        cast_dtype: torch.dtype | None = None,
    ):
        vision = section(vision_cfg, CLIPVisionCfg)
        if not vision.get("output_tokens"):
            raise ConfigError(
                "captions read the picture's tokens: vision_cfg needs output_tokens=True"
            )
        said = section(multimodal_cfg, MultimodalCfg)
        clip = build_clip(
            {
                "embed_dim": embed_dim,
                "vision_cfg": vision,
                "multimodal_cfg": said,
                "quick_gelu": quick_gelu,
                "init_logit_bias": init_logit_bias,
            },
            init_logit_scale,
        )
        super().__init__(clip)
        settle(self, {"vision_cfg": vision})
        self.bos_id, self.eos_id = said.get("bos_id"), said.get("eos_id")
        self.text.bos_id, self.text.eos_id = self.bos_id, self.eos_id
        if said.get("variable_text"):
            self.traits = replace(self.traits, variable_text=True)
        if nonscalar_logit_scale:
            self.reshape_scale(1)

    def _add_text(self, tower: Tower[Any]) -> None:
        self.context_length = self.config.text.context_length
        self.vocab_size = self.config.text.vocabulary
        self.text_beside = False
        self.bos_id, self.eos_id = self.config.text.bounds or (None, None)

    def _add_decoder(self, clip: Clip) -> None:
        """`text`, which is both parts of ours."""
        decoder = clip.decoder
        assert decoder is not None
        with shapes_only():
            made = _both(clip.config)
        state = part_of(self.table, "text.", TEXT).to_foreign(clip.text.state_dict(prefix="tower."))
        state |= part_of(self.table, "decoder.", TEXT).to_foreign(
            decoder.state_dict(prefix="tower.")
        )
        pictures = state.pop(_PICTURES)
        made.load_state_dict(state, assign=True)
        if isinstance(made, MultimodalDecoder):
            made.set_mask()
        elif self._tied:
            made.tie_lm_head()
        self.text = made.train(clip.text.training)
        self.map_viz2txt_kv = nn.Parameter(pictures)

    def of_texts(self) -> dict[str, Tensor]:
        """The tensors that both passes have."""
        return {n: t for n, t in self._tensors().items() if not self._only_captions(n)}

    def of_captions(self) -> dict[str, Tensor]:
        """The tensors that only captions have."""
        own = {n: t for n, t in self._tensors().items() if self._only_captions(n)}
        return own | {_PICTURES: self.map_viz2txt_kv}

    def _tensors(self) -> dict[str, Tensor]:
        return self.text.state_dict(prefix=TEXT, keep_vars=True)

    def _only_captions(self, name: str) -> bool:
        parts = name.removeprefix(TEXT).split(".")
        own_head = parts[0] == _HEAD and not self._tied
        return own_head or not _OF_CAPTIONS.isdisjoint(parts)

    @property
    def _tied(self) -> bool:
        """Whether logits are made by the words' table."""
        decoder = self.config.decoder
        return isinstance(decoder, TwoPassReadersConfig) and decoder.tied

    @property
    def clip(self) -> Clip:
        """See `OpenClipModel.clip`."""
        return unwrap_two_passes(self, self, self.table)

    @property
    def pad_id(self) -> int:
        """What shorter texts are filled up with: as `text` has it."""
        return self.text.pad_id

    def encode_text(
        self, text: Tensor, normalize: bool | None = None, text_valid: Tensor | None = None
    ) -> Tensor:
        """See `OpenClipModel.encode_text`."""
        return self._scaled(self.text(text, text_valid=text_valid, mode="contrastive"), normalize)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image: Tensor | Mapping[str, Any] | None = None,
        text: Tensor | None = None,
        text_valid: Tensor | None = None,
        image_latent: Tensor | None = None,
        image_embs: Tensor | None = None,
        image_embs_valid: Tensor | None = None,
        labels: Tensor | None = None,
        caption_z_loss: bool = False,
        caption_loss_compute_dtype: Any = torch.float32,
        caption_loss_chunk_size: int = 4096,
    ) -> dict[str, Tensor | None]:
        """Unit vectors of pictures and texts, and `logits` of the token behind each place; of
        pictures alone their vectors and tokens, of texts alone their vectors. `text_valid`: see
        `encode_text`; `image_embs_valid`, [batch, tokens]: which of the picture's aren't padding.
        `labels` and what is behind it: see `CoCa`."""
        if image is not None and (image_latent is None or image_embs is None):
            image_latent, image_embs, image_embs_valid = self.picture(image)
        if text is None:
            return {
                "image_features": image_latent,
                "image_embs": image_embs,
                "image_embs_valid": image_embs_valid,
            }
        vectors = self.encode_text(text, True, text_valid)
        if image_latent is None or image_embs is None:
            return {"text_features": vectors}
        found: dict[str, Tensor | None] = {"image_features": image_latent, "text_features": vectors}
        context = image_embs @ self.map_viz2txt_kv.to(image_embs.dtype)
        asked = {"context": context, "context_valid": image_embs_valid, "mode": "caption"}
        if labels is None:
            found["logits"] = self.text(text, **asked)
        else:
            found |= caption_losses(
                self.text(text, return_hidden=True, **asked),
                labels,
                self.text.lm_head_params,
                chunk_size=caption_loss_chunk_size,
                z_loss=caption_z_loss,
                compute_dtype=caption_loss_compute_dtype,
            )
        found["logit_scale"] = self.logit_scale.exp()
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found

    def caption_logits(
        self, text: Tensor, image_embs: Tensor, seen: Tensor | None = None
    ) -> Tensor:
        """See `CaptioningModel`."""
        context = image_embs @ self.map_viz2txt_kv.to(image_embs.dtype)
        return self.text(text, context=context, context_valid=seen, mode="caption")


def _both(config: ClipConfig) -> MultimodalDecoder | ModernMultimodalDecoder:
    """Text tower and decoder as open_clip has them, without values."""
    sizes, decoder = config.text, config.decoder
    said = model_json(config)["multimodal_cfg"]
    if isinstance(sizes, TwoPassTextConfig) and isinstance(decoder, TwoPassReadersConfig):
        return ModernMultimodalDecoder.both(sizes, decoder.every, said, config.embed_dim)
    assert isinstance(sizes, TransformerTextConfig)
    return MultimodalDecoder.of(
        said,
        config.embed_dim,
        act_layer=activation_layer(sizes.activation),
        norm_layer=norm_layer_of(sizes.norm_eps),
    )
