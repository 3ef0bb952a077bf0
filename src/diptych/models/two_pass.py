"""What writes captions together with a text tower that reads pictures in a second pass (MaMMUT, Kuo
et al. 2023, arXiv:2303.16839)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.config import TextTowerConfig
from diptych.config.two_pass import TwoPassDecoderConfig
from diptych.errors import ConfigError
from diptych.models.decoder import Decoder, Read
from diptych.models.tower import Tower

C = TypeVar("C", bound=TwoPassDecoderConfig)
Reader = Callable[[Tensor], Tensor]
"""What reads a picture in a layer: [texts, length, width] to the same."""
_PATCHES = 256
"""Tokens of a picture of the published model's size."""


class TwoPassDecoder(Decoder[C]):
    """The picture's tokens in the texts' width, and what reads them, which the text tower takes
    into its own layers (`forward(ids, tokens, readers)`).

    A reader has `keys_values(pictures)`, and takes tokens with `read`, or `pictures`, and `seen`:
    see `nn.CrossBlock`.
    """

    text_kind: ClassVar[type[TextTowerConfig]]
    """The configuration of the text towers that take readers."""

    projection: nn.Linear | None
    """From a token to logits; None: the text tower's table of words makes them."""

    def __init__(self, config: C, readers: nn.ModuleList, tied: bool = False):
        super().__init__(config)
        self.width = config.width
        self.pictures = nn.Linear(config.picture_width, config.width, bias=False)
        self.readers = readers
        self.projection = None if tied else nn.Linear(config.width, config.vocab_size, bias=False)

    def init_ends(self) -> None:
        """Fill the matrices with N(0, 1 / their input's width)."""
        for linear in (self.pictures, self.projection):
            if linear is not None:
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def check_towers(self, image: Tower[Any], text: Tower[Any]) -> None:
        """See `Decoder.check_towers`; the text tower must take readers, and be of the same
        sizes."""
        config, kind = self.config, type(self).text_kind
        if not isinstance(text.config, kind):
            raise ConfigError(
                f"a {type(config).__name__} reads pictures between the blocks of a "
                f"{kind.__name__}, and this model's text tower is a {type(text.config).__name__}"
            )
        for name, own, other in (
            ("text.width", config.width, text.width),
            ("text.layers", config.layers, len(text.blocks)),
            ("image.width", config.picture_width, image.width),
        ):
            if own != other:
                raise ConfigError(f"the decoder is for {name} {own}, and this model has {other}")

    def read(
        self,
        pictures: Float[Tensor, "batch tokens picture_width"],
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Read:
        """See `Decoder.read`."""
        own = self.pictures(pictures)
        return Read([reader.keys_values(own) for reader in self._readers()], seen)

    def next_tokens(
        self, text: Tower[Any], ids: Int[Tensor, "texts length"], read: Read, last: bool = False
    ) -> Float[Tensor, "texts places vocabulary"]:
        """See `Decoder.next_tokens`."""
        both = zip(self._readers(), read.keys_values, strict=True)
        readers = [partial(reader, read=each, seen=read.seen) for reader, each in both]
        states = text(ids, "normed", self._between(readers)).tokens
        return self.head(text)(states[:, -1:] if last else states)

    def training_states(
        self,
        text: Tower[Any],
        ids: Int[Tensor, "texts length"],
        words: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens picture_width"],
        seen: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts length width"]:
        """See `Decoder.training_states`; `words`, which saw the whole text, aren't read."""
        own = self.pictures(pictures)
        readers = [partial(reader, pictures=own, seen=seen) for reader in self._readers()]
        return text(ids, "normed", self._between(readers)).tokens

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """See `Decoder.logits`."""
        assert self.projection is not None
        return self.projection(states)

    @property
    def units(self) -> list[nn.Module]:
        """See `Decoder.units`: the readers."""
        return list(self.readers)

    def _between(self, readers: Sequence[Reader]) -> list[Reader | None]:
        """One place for each of the text tower's layers."""
        places: list[Reader | None] = [None] * self.config.layers
        for layer, reader in zip(self.config.reader_layers, readers, strict=True):
            places[layer] = reader
        return places

    def _readers(self) -> list[Any]:
        return list(self.readers)

    def reader_flops(self, length: int, tokens: int) -> int:
        """Of one reader over a text of this length and a picture of so many tokens."""
        raise NotImplementedError

    def flops(self) -> int:
        """Of one caption of full length and a picture of 256 tokens, without the text tower's pass;
        a multiply-add counts two."""
        c = self.config
        length = c.context_length
        readers = len(self.readers) * self.reader_flops(length, _PATCHES)
        pictures = 2 * _PATCHES * c.picture_width * c.width
        return readers + pictures + 2 * length * c.width * c.vocab_size
