"""Two towers, a scale and a bias; in some models, what writes captions."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.batch import TextLengths
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.models.decoder import Decoder, Read
from diptych.models.tower import TokenKind, Tower, TowerOutput


class Clip(nn.Module):
    """Pictures and captions as vectors in one space (Radford et al. 2021, arXiv:2103.00020). Made
    by `build`.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.models import build
    >>> model = build(pretrained.get("tiny"))
    >>> images, texts = model(torch.zeros(2, 3, 48, 48), torch.tensor([[49406, 320, 49407]]))
    >>> model.logits(images, texts).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        config: ClipConfig,
        image: Tower[Any],
        text: Tower[Any],
        decoder: Decoder[Any] | None = None,
    ):
        super().__init__()
        self.config = config
        self.image = image
        self.text = text
        self.decoder = decoder
        """What writes captions; None: the model has none."""
        dim = config.token_dim
        self.image_tokens = nn.Linear(image.width, dim) if dim is not None else None
        self.text_tokens = nn.Linear(text.width, dim) if dim is not None else None
        """Patches and words, each in the space where they are compared."""
        self.logit_scale = nn.Parameter(torch.empty(1))
        """The logarithm of the factor on cosine similarities. Shape [1]: sharded training refuses
        scalars."""
        self.logit_bias = nn.Parameter(torch.empty(1)) if config.logit_bias is not None else None

    def init(self) -> None:
        """Fill scale and bias with the configuration's values, and the towers by their tables."""
        nn.init.constant_(self.logit_scale, self.config.logit_scale)
        if self.logit_bias is not None and self.config.logit_bias is not None:
            nn.init.constant_(self.logit_bias, self.config.logit_bias)
        self.image.init()
        self.text.init()
        if self.decoder is not None:
            self.decoder.init()
        for mapping in (self.image_tokens, self.text_tokens):
            if mapping is not None:
                mapping.reset_parameters()

    def train_tokens(self, trained: bool) -> None:
        """Whether `image_tokens` and `text_tokens` are trained, where the model has them."""
        for mapping in (self.image_tokens, self.text_tokens):
            if mapping is not None:
                mapping.requires_grad_(trained)

    def encode_image(
        self, pixels: Float[Tensor, "batch 3 height width"], normalize: bool = False
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of normalised pixels; with `normalize` of unit length, and at least in
        float32."""
        vectors = self.image(pixels, tokens="none").pooled
        return unit(vectors) if normalize else vectors

    def encode_text(
        self,
        ids: Int[Tensor, "batch length"],
        normalize: bool = False,
        lengths: TextLengths | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of captions as token ids; with `normalize` of unit length, and at least in
        float32. `lengths`: see `read_text`."""
        vectors = self.read_text(ids, "none", lengths).pooled
        return unit(vectors) if normalize else vectors

    def read_text(
        self,
        ids: Int[Tensor, "batch length"],
        tokens: TokenKind = "raw",
        lengths: TextLengths | None = None,
    ) -> TowerOutput:
        """What the text tower makes of captions as token ids. Given their `lengths`, it leaves out
        their padding as far as it can without a change of the numbers; a token behind its caption's
        end then has no meaning."""
        if lengths is None or self.config.text.padding != "ignored":
            return self.text(ids, tokens)
        return self.text(ids, tokens, lengths)

    def read_pictures(self, pixels: Float[Tensor, "batch 3 height width"]) -> Read:
        """What the decoder needs of pictures (`Decoder.read`). Raises ConfigError for a model
        without one."""
        decoder = self._decoder
        pictures = self.image(pixels, decoder.config.reads).tokens
        seen = self.image.real_patches(pixels)
        return decoder.read(pictures[:, self.image.class_tokens :], seen)

    def next_tokens(
        self, ids: Int[Tensor, "texts length"], read: Read, last: bool = False
    ) -> Float[Tensor, "texts places vocabulary"]:
        """Logits of the token behind each place of captions, or behind the `last` alone, given what
        was read of their pictures."""
        return self._decoder.next_tokens(self.text, ids, read, last)

    @property
    def _decoder(self) -> Decoder[Any]:
        if self.decoder is None:
            raise ConfigError("this model writes no captions; CoCa's do, such as coca-vit-l-14")
        return self.decoder

    def forward(
        self, pixels: Float[Tensor, "images 3 height width"], ids: Int[Tensor, "texts length"]
    ) -> tuple[Float[Tensor, "images embed_dim"], Float[Tensor, "texts embed_dim"]]:
        """Unit vectors of the pictures and of the captions; their numbers may differ."""
        return self.encode_image(pixels, normalize=True), self.encode_text(ids, normalize=True)

    def logits(
        self, images: Float[Tensor, "images embed_dim"], texts: Float[Tensor, "texts embed_dim"]
    ) -> Float[Tensor, "images texts"]:
        """exp(scale) * <image, text> + bias, of unit vectors."""
        logits = self.logit_scale.exp() * images @ texts.T
        return logits if self.logit_bias is None else logits + self.logit_bias


def unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length 1, at least in float32: half precision would be off by a thousandth,
    which the scale makes a tenth of a logit."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
