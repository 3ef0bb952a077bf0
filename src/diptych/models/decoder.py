"""The contract of what writes captions: tokens of a text and of a picture -> the next token."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.config import DecoderConfig
from diptych.models.recompute import recompute

C = TypeVar("C", bound=DecoderConfig)


class Decoder(nn.Module, Generic[C]):
    """Goes on with a text, given the picture that it is about."""

    config: C
    width: int
    """Of the tokens that it reads, the text tower's and the image tower's."""

    @classmethod
    def build(cls, config: C, device: torch.device) -> "Decoder[C]":
        """The decoder on `device`, before `init`."""
        with torch.device("meta"):
            decoder = cls(config)
        return decoder if device.type == "meta" else decoder.to_empty(device=device)

    def __init__(self, config: C):
        super().__init__()
        self.config = config

    def init(self) -> None:
        """Fill every parameter with its value before training."""
        raise NotImplementedError

    def read(self, pictures: Float[Tensor, "batch tokens width"]) -> list[Tensor]:
        """What the decoder needs of pictures, computed once for all that is written: each tensor
        has a row for each. `pictures`: the image tower's normed tokens, without class token."""
        raise NotImplementedError

    def forward(
        self,
        texts: Float[Tensor, "texts length width"],
        read: Sequence[Tensor],
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """The text tower's tokens of texts (`TextTowerConfig.decoded`) and what was read of their
        pictures, to the logits of the token behind each place; with `last`, behind the last place
        alone. There may be several texts to each picture, one picture's beside each other."""
        raise NotImplementedError

    def states(
        self,
        texts: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens width"],
    ) -> Float[Tensor, "texts length width"]:
        """What `logits` makes the logits of the token behind each place of: of texts and of
        pictures, one to each, the same tokens as `forward` and `read` take. For training, where
        nothing that was read of a picture serves twice, and logits are made a few at a time."""
        raise NotImplementedError

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """Of the next token."""
        raise NotImplementedError

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
