"""The contract of what writes captions: tokens of a text and of a picture -> the next token."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.config import DecoderConfig
from diptych.errors import ConfigError
from diptych.models.recompute import recompute
from diptych.models.shapes import shapes_only
from diptych.models.tower import Tower

C = TypeVar("C", bound=DecoderConfig)


class Read(NamedTuple):
    """What a decoder needs of pictures, computed once for all that is written."""

    keys_values: list[Tensor]
    """[pictures, tokens, 2 width] of each part that reads them."""
    seen: Bool[Tensor, "pictures tokens"] | None = None
    """Which tokens there are; None: all."""


class Decoder(nn.Module, Generic[C]):
    """Goes on with a text, given the picture that it is about."""

    config: C
    width: int
    """Of the tokens that it reads, the text tower's and the image tower's."""

    @classmethod
    def build(cls, config: C, device: torch.device) -> "Decoder[C]":
        """The decoder on `device`, before `init`."""
        with shapes_only():
            decoder = cls(config)
        return decoder if device.type == "meta" else decoder.to_empty(device=device)

    def __init__(self, config: C):
        super().__init__()
        self.config = config

    def init(self) -> None:
        """Fill every parameter with its value before training."""
        raise NotImplementedError

    def check_towers(self, image: Tower[Any], text: Tower[Any]) -> None:
        """Raises ConfigError for towers whose tokens it can't read."""
        if not self.width == image.width == text.width:
            raise ConfigError(
                f"the decoder reads tokens of width {self.width}, but those of pictures have "
                f"{image.width} and those of texts {text.width}; make the three alike"
            )

    def read(
        self,
        pictures: Float[Tensor, "batch tokens width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Read:
        """What the decoder needs of pictures. `pictures`: the image tower's tokens
        (`DecoderConfig.reads`), without class token; `seen`: which of them there are
        (`Tower.real_patches`)."""
        raise NotImplementedError

    def next_tokens(
        self,
        text: Tower[Any],
        ids: Int[Tensor, "texts length"],
        read: Read,
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """Logits of the token behind each place of captions, or behind the `last` alone, given the
        model's `text` tower and what was read of their pictures. There may be several texts to each
        picture, one picture's beside each other."""
        return self(text(ids, text.config.decoded).tokens, read, last)

    def training_states(
        self,
        text: Tower[Any],
        ids: Int[Tensor, "texts length"],
        words: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens width"],
        seen: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """What `head` makes the logits of the token behind each place of, of captions that the
        model's `text` tower has read as `words`, and of pictures, one to each: for training, where
        nothing that was read of a picture serves twice, and logits are made a few at a time."""
        return self.states(words, pictures, seen)

    def forward(
        self,
        texts: Float[Tensor, "texts length width"],
        read: Read,
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """`next_tokens` of texts that the text tower has read (`TextTowerConfig.decoded`), of a
        decoder that needs nothing else of it."""
        raise NotImplementedError

    def states(
        self,
        texts: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens width"],
        seen: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """`training_states` of the same tokens as `forward` and `read` take."""
        raise NotImplementedError

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """Of the next token, of a decoder that needs nothing but `states` for them."""
        raise NotImplementedError

    def head(self, text: Tower[Any]) -> Callable[[Tensor], Tensor]:
        """What makes logits of `training_states`: `logits`, or the table of words of the model's
        `text` tower."""
        return self.logits

    @property
    def units(self) -> list[nn.Module]:
        """Its repeated parts in order, as a tower's `units`."""
        raise NotImplementedError

    @property
    def trained(self) -> bool:
        """Whether anything of it is."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute the activations of each of the `units` in the backward pass, or keep them."""
        recompute(self.units, on)

    def flops(self) -> int:
        """Floating-point operations of `forward` for one caption of full length; a multiply-add
        counts two."""
        raise NotImplementedError
