"""A model of ours with open_clip's face."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.names import (
    DECODER,
    TEXT,
    VISUAL,
    in_open_clips_names,
    table_of,
    taken,
    text_prefix,
)
from diptych.compat.options import refuse
from diptych.compat.towers import OpenClipDecoder, OpenClipText, OpenClipVisual
from diptych.encoder.captions import limits_of, write_ids
from diptych.errors import ConfigError
from diptych.inputs import tokenizer_of
from diptych.inputs.tokenizer import pad_rows
from diptych.models import Clip
from diptych.models.clip import unit
from diptych.models.evaluating import evaluating

_PARTS = {VISUAL: "image.", TEXT: "text.", DECODER: "decoder."}
_NOT_OF_TEXT = (VISUAL, DECODER, "logit_scale", "logit_bias", "image_tokens.", "text_tokens.")
"""What names of other parts than the text tower begin with."""


class OpenClipModel(nn.Module):
    """`encode_image`, `encode_text`, a forward pass and names of parameters as open_clip's `CLIP`
    (or `CustomTextCLIP`) has them. `clip` is the same model as Diptych has it.

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

    def __init__(self, clip: Clip, output_dict: bool = False):
        super().__init__()
        self.config = clip.config
        self.output_dict = output_dict
        """Whether the forward pass gives a dictionary in place of a tuple."""
        self.table = table_of(clip.config)
        text = text_prefix(self.table.rules)
        self.visual = OpenClipVisual(clip.image, self.table, clip.config.embed_dim)
        self.text = OpenClipText(clip.text, self.table, text)
        decoder = clip.decoder
        self.text_decoder = None if decoder is None else OpenClipDecoder(decoder, self.table)
        self.image_tokens, self.text_tokens = clip.image_tokens, clip.text_tokens
        self.logit_scale = _reshaped(clip.logit_scale)
        """The logarithm of the factor on cosine similarities, of shape []."""
        self.logit_bias = None if clip.logit_bias is None else _reshaped(clip.logit_bias)
        self.register_state_dict_post_hook(_rename_saved)
        self.register_load_state_dict_pre_hook(_rename_loaded)

    @property
    def clip(self) -> Clip:
        """The model as Diptych has it, with the same towers; scale and bias have the same numbers
        in shape [1]."""
        decoder = None if self.text_decoder is None else self.text_decoder.tower
        clip = Clip(self.config, self.visual.tower, self.text.tower, decoder)
        clip.image_tokens, clip.text_tokens = self.image_tokens, self.text_tokens
        clip.logit_scale = _reshaped(self.logit_scale, 1)
        clip.logit_bias = None if self.logit_bias is None else _reshaped(self.logit_bias, 1)
        clip.training = self.training
        return clip

    @property
    def context_length(self) -> int:
        """Ids of a text at the most."""
        return self.text.context_length

    @property
    def vocab_size(self) -> int | None:
        """Different ids; None: only the library that the text tower comes from can tell."""
        return self.text.vocab_size

    @property
    def dtype(self) -> torch.dtype:
        """Of the image tower's weights, as OpenAI's models say it."""
        return self.visual.dtype

    def encode_image(
        self, image: Float[Tensor, "batch 3 height width"], normalize: bool | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of pictures, as the transform made them; of unit length where it is asked for,
        and of CoCa where it isn't refused."""
        return self._scaled(self.visual.pool(image.to(self.dtype)), normalize)

    def encode_text(
        self, text: Int[Tensor, "batch length"], normalize: bool | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of captions, as the tokenizer made them; see `encode_image`."""
        return self._scaled(self.text.pool(text), normalize)

    def _scaled(self, vectors: Tensor, normalize: bool | None) -> Tensor:
        asked = self.text_decoder is not None if normalize is None else normalize
        return unit(vectors) if asked else vectors

    def generate(
        self,
        image: Float[Tensor, "batch 3 height width"],
        seq_len: int = 30,
        min_seq_len: int = 5,
        generation_type: str = "beam_search",
        top_k: int = 1,
        num_beams: int = 6,
        num_beam_groups: int = 3,
        **options: Any,
    ) -> Int[Tensor, "batch length"]:
        """Captions of pictures as ids, padded with 0 (CoCa's `generate`): by beam search, or the
        greedy `generation_type="top_k"` with `top_k=1`. `num_beam_groups` groups find the same.
        Raises ConfigError for sampling, and for a model without a decoder.
        """
        refuse(options)
        greedy = (generation_type, top_k) == ("top_k", 1)
        if generation_type != "beam_search" and not greedy:
            raise ConfigError(
                f"generation_type={generation_type!r} with top_k={top_k} has no counterpart in "
                "Diptych; captions are searched (beam_search), or the best word is taken (top_k, 1)"
            )
        beams = 1 if greedy else max(1, num_beams // max(1, num_beam_groups))
        clip, tokenizer = self.clip, tokenizer_of(self.config)
        limits = limits_of(clip, tokenizer, most=seq_len, least=min_seq_len, beams=beams)
        with evaluating(clip):
            found = write_ids(clip, image.to(self.dtype), beams, limits)
        return pad_rows(found, 0).to(image.device)

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

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> Any:
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

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by open_clip's names."""
        before = f"{prefix}." if prefix else ""
        for name, parameter in super().named_parameters("", recurse, remove_duplicate):
            ours = name
            for theirs, part in _PARTS.items():
                ours = ours.replace(f"{theirs}tower.", part, 1)
            yield before + self.table.foreign_names(ours)[0], parameter


class LogitsModel(OpenClipModel):
    """The same with the forward pass of the `clip` package."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, image: Tensor, text: Tensor
    ) -> Any:
        """`get_logits`."""
        return self.get_logits(image, text)


def _reshaped(parameter: nn.Parameter, *shape: int) -> nn.Parameter:
    """A parameter of this shape over the same number."""
    return nn.Parameter(parameter.detach().reshape(shape), parameter.requires_grad)


def _rename_saved(
    model: OpenClipModel, state: MutableMapping[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """The towers have renamed their own; in open_clip's `CLIP` the text tower's parts stand a level
    up."""
    if model.text.beside:
        for name, tensor in taken(state, f"{prefix}{TEXT}").items():
            state[prefix + name] = tensor


def _rename_loaded(
    model: OpenClipModel,
    state: MutableMapping[str, Any],
    prefix: str,
    metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """The other way round, from whatever layout."""
    given, known = taken(state, prefix), model.state_dict()
    for name, tensor in in_open_clips_names(given, known, model.table).items():
        of_text = model.text.beside and not name.startswith(_NOT_OF_TEXT)
        state[f"{prefix}{TEXT if of_text else ''}{name}"] = tensor
