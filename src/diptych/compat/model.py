"""A model of ours with open_clip's face."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.models import Clip, Tower


class OpenClipModel(nn.Module):
    """`encode_image`, `encode_text` and a forward pass as open_clip's `CLIP` has them.

    Pixels are cast to the image tower's precision, so that a half-precision model needs no
    autocast.

    >>> import torch
    >>> from diptych import compat
    >>> model = compat.create_model("tiny")
    >>> ids = compat.get_tokenizer("tiny")(["a cat"])
    >>> image, text, scale = model(torch.zeros(1, 3, 48, 48), ids)
    >>> image.shape, text.shape, round(scale.item(), 2)
    (torch.Size([1, 128]), torch.Size([1, 128]), 14.29)
    """

    def __init__(self, clip: Clip):
        super().__init__()
        self.clip = clip

    @property
    def visual(self) -> Tower[Any]:
        """The image tower."""
        return self.clip.image

    @property
    def text(self) -> Tower[Any]:
        """The text tower."""
        return self.clip.text

    @property
    def logit_scale(self) -> nn.Parameter:
        """The logarithm of the factor on cosine similarities, of shape [1]."""
        return self.clip.logit_scale

    def encode_image(
        self, image: Float[Tensor, "batch 3 height width"], normalize: bool = False
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of pictures, as the transform made them."""
        return self.clip.encode_image(image.to(next(self.visual.parameters()).dtype), normalize)

    def encode_text(
        self, text: Int[Tensor, "batch length"], normalize: bool = False
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of captions, as the tokenizer made them."""
        return self.clip.encode_text(text, normalize)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        """Unit vectors of pictures and of captions, and the factor on their similarity."""
        return self.encode_image(image, True), self.encode_text(text, True), self.logit_scale.exp()


class LogitsModel(OpenClipModel):
    """The same with the forward pass of the `clip` package."""

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        """Logits of each picture for each text, and transposed: the model's own factor x cosine
        similarity."""
        logits = self.clip.logits(self.encode_image(image, True), self.encode_text(text, True))
        return logits, logits.T
