"""A model of ours with open_clip's face."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.compat.faces import intermediates
from diptych.compat.faces.assembled import AssembledModel
from diptych.compat.faces.naflex_timm import NaflexTimmModel
from diptych.compat.faces.tower import OpenClipTower
from diptych.compat.faces.towers import OpenClipVisual
from diptych.compat.parts.genlip import GenLipVisual
from diptych.compat.parts.locks import check_norms_frozen
from diptych.compat.parts.modern import ModernTextTransformer
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.text_parts import Reading, encode, lock
from diptych.compat.parts.text_parts import intermediates as intermediates_of_text
from diptych.compat.parts.two_passes import MultimodalDecoder
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.timm_model import TimmModel
from diptych.errors import ConfigError
from diptych.models.clip import unit

_OWN = VisionTransformer | TextTransformer | ModernTextTransformer | MultimodalDecoder
"""open_clip's own towers, part by part."""


class OpenClipModel(AssembledModel):
    """`encode_image`, `encode_text`, a forward pass, parts and names of parameters as open_clip's
    `CLIP` (or `CustomTextCLIP`) has them, which `wrap` makes of it.

    Its own transformers stand here part by part (`visual.transformer.resblocks[3].attn`), and what
    stands there is what is computed. `clip` is the same model as Diptych has it, which is faster.

    Pixels are cast to the image tower's precision, so that a half-precision model needs no
    autocast.

    >>> import torch
    >>> from diptych import compat, models, pretrained
    >>> model = compat.OpenClipModel(models.build(pretrained.get("tiny")))
    >>> ids = compat.get_tokenizer("tiny")(["a cat"])
    >>> image, text, scale = model(torch.zeros(1, 3, 48, 48), ids)
    >>> image.shape, text.shape, round(scale.item(), 2)
    (torch.Size([1, 128]), torch.Size([1, 128]), 14.29)
    """

    _said_dtype: torch.dtype | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the image tower's weights, as OpenAI's models say it. open_clip's say none, so
        programs set it, which changes no weights."""
        return self._said_dtype or self.visual.dtype

    @dtype.setter
    def dtype(self, dtype: torch.dtype) -> None:
        self._said_dtype = dtype

    def pixels(self, image: Tensor | Mapping[str, Any]) -> Tensor:
        """Pictures as `clip` takes them."""
        if isinstance(self.visual, OpenClipVisual | GenLipVisual | NaflexTimmModel):
            return self.visual.pixels(image)
        return self._squares(image).to(self.visual.dtype)

    def _squares(self, image: Any) -> Any:
        if isinstance(image, Mapping) and not self.config.image.native:
            raise ConfigError("this tower takes squares of pixels, and no patches by name")
        return image

    def encode_image(
        self,
        image: Float[Tensor, "batch 3 height width"] | Mapping[str, Any],
        normalize: bool | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of pictures, as the transform made them; of unit length where it is asked for,
        and of CoCa where it isn't refused. Raises ConfigError for patches that are given to a tower
        of squares."""
        return self._scaled(_pooled(self.visual(self._squares(image))), normalize)

    def encode_text(
        self,
        text: Int[Tensor, "batch length"],
        normalize: bool | None = None,
        text_valid: Tensor | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of captions, as the tokenizer made them; see `encode_image`. `text_valid`,
        [batch, length]: which tokens aren't padding (None: the ids tell); who doesn't hide padding
        doesn't ask. Raises ConfigError for it where another library reads the texts."""
        if self.text_beside:
            return self._scaled(encode(self, text, self._reading, text_valid)[0], normalize)
        return self._scaled(_pooled(self.text(text, **_mask(self.text, text_valid))), normalize)

    @property
    def _reading(self) -> Reading:
        return Reading(self.text_pool_type, self.text_eos_id, 0)

    def text_intermediates(self, text: Tensor, **options: Any) -> dict[str, Any]:
        """What the text tower's blocks give: see `forward_intermediates`."""
        if not self.text_beside:
            return self.text.forward_intermediates(text, **options)
        # As open_clip's CLIP has it, which passes over these.
        options |= {"stop_early": False, "output_fmt": "NLC", "output_extra_tokens": False}
        return intermediates_of_text(self, text, self._reading, **options)

    def _scaled(self, vectors: Tensor, normalize: bool | None) -> Tensor:
        writes = self.text_decoder is not None or self.traits.generative
        asked = writes if normalize is None else normalize
        return unit(vectors) if asked else vectors

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each picture for each text, and transposed: the model's own factor x cosine
        similarity, plus the bias where there is one."""
        logits = self.logits(self.encode_image(image, True), self.encode_text(text, True))
        return logits, logits.T

    def logits(
        self, images: Float[Tensor, "images embed_dim"], texts: Float[Tensor, "texts embed_dim"]
    ) -> Float[Tensor, "images texts"]:
        """exp(scale) * <image, text> + bias, of unit vectors."""
        logits = self.logit_scale.exp() * images @ texts.T
        return logits if self.logit_bias is None else logits + self.logit_bias

    forward_intermediates = intermediates.forward_intermediates

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last groups of layers: the projection, each block,
        what makes the first one's input; with `freeze_bn_stats` frozen batch norms' statistics,
        too."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """The same of the text tower. Raises AssertionError where norms are to be trained and the
        tower is open_clip's own."""
        if not self.text_beside:
            self.text.lock(unlocked_layers, freeze_layer_norm)
            return
        check_norms_frozen(freeze_layer_norm)
        lock(self, unlocked_layers)

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass: less memory, more time; `impl`: see
        `stack.check_impl`."""
        self.visual.set_grad_checkpointing(enable, impl)
        text: Any = self.transformer if self.text_beside else self.text
        text.set_grad_checkpointing(enable, impl)
        if self.text_decoder is not None:
            self.text_decoder.set_grad_checkpointing(enable, impl)

    def no_weight_decay(self) -> set[str]:
        """Names of tables without weight decay, beside what has one dimension."""
        found = {"positional_embedding"} if self.text_beside else set[str]()
        for name, part in (("visual", self.visual), ("text", getattr(self, "text", None))):
            if isinstance(part, _OWN | OpenClipTower | TimmModel):
                found |= {f"{name}.{table}" for table in part.no_weight_decay()}
        return found

    def forward(
        self, image: Tensor | Mapping[str, Any] | None = None, text: Tensor | None = None
    ) -> Any:
        """Unit vectors of pictures and of captions (None where none were given), the factor on
        their similarity, and the bias where there is one."""
        found = {
            "image_features": None if image is None else self.encode_image(image, True),
            "text_features": None if text is None else self.encode_text(text, True),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found if self.output_dict else tuple(found.values())


def _mask(text: Any, text_valid: Tensor | None) -> dict[str, Tensor]:
    if text_valid is None:
        return {}
    if not isinstance(text, TextTransformer | ModernTextTransformer | MultimodalDecoder):
        raise ConfigError("this model's text tower tells padding by its id; leave out text_valid")
    return {"text_valid": text_valid}


def _pooled(output: Any) -> Tensor:
    """Of a tower, whatever its `output_tokens`."""
    if isinstance(output, dict):
        return output["pooled"]
    return output[0] if isinstance(output, tuple) else output
