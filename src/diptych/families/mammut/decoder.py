"""What only the pass of captions of MaMMUT's decoder has (Kuo et al. 2023, arXiv:2303.16839), as
open_clip has it."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.mammut.config import MammutDecoderConfig, MammutTextConfig
from diptych.families.mammut.text import Reader
from diptych.models.decoder import Decoder
from diptych.models.tower import Tower
from diptych.nn import CrossBlock
from diptych.nn.cross import build_readers, cross_flops

_PATCHES = 256
"""Tokens of a picture of the published model's size."""


class MammutDecoder(Decoder[MammutDecoderConfig]):
    """The picture's tokens in the texts' width, and blocks that read them, which the text tower
    takes between its own.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.models import build
    >>> model = build(pretrained.get("tiny-mammut"))
    >>> read = model.read_pictures(torch.zeros(2, 3, 48, 48))
    >>> model.next_tokens(torch.tensor([[49406, 320], [49406, 518]]), read).shape
    torch.Size([2, 2, 49408])
    """

    def __init__(self, config: MammutDecoderConfig):
        super().__init__(config)
        self.width = config.width
        self.pictures = nn.Linear(config.picture_width, config.width, bias=False)
        self.readers = build_readers(config, config.readers)
        self.projection = nn.Linear(config.width, config.vocab_size, bias=False)

    def init(self) -> None:
        """Fill every parameter, as open_clip does: readers by CLIP's table (`init_blocks`), for the
        text tower's number of blocks; the two matrices with N(0, 1 / their input's width)."""
        residual = (2 * self.config.layers * self.width) ** -0.5
        for reader in self._readers():
            reader.init(residual)
        for linear in (self.pictures, self.projection):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def check_towers(self, image: Tower[Any], text: Tower[Any]) -> None:
        """See `Decoder.check_towers`; the text tower must be MaMMUT's, of the same sizes."""
        config = self.config
        if not isinstance(text.config, MammutTextConfig):
            raise ConfigError(
                "MaMMUT's decoder reads pictures between the blocks of a MammutTextConfig, and "
                f"this model's text tower is a {type(text.config).__name__}"
            )
        for name, own, other in (
            ("text.width", config.width, text.width),
            ("text.layers", config.layers, text.config.layers),
            ("image.width", config.picture_width, image.width),
        ):
            if own != other:
                raise ConfigError(f"the decoder is for {name} {own}, and this model has {other}")

    def read(self, pictures: Float[Tensor, "batch tokens picture_width"]) -> list[Tensor]:
        """Each reader's keys and values of pictures, [batch, tokens, 2 width], which are the same
        for every word that is written."""
        own = self.pictures(pictures)
        return [reader.keys_values(own) for reader in self._readers()]

    def forward(
        self,
        texts: Float[Tensor, "texts length width"],
        read: Sequence[Float[Tensor, "pictures tokens two_widths"]],
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """Logits of texts into which the text tower has read what was `read`."""
        return self.logits(texts[:, -1:] if last else texts)

    def next_tokens(
        self,
        text: Tower[Any],
        ids: Int[Tensor, "texts length"],
        read: Sequence[Float[Tensor, "pictures tokens two_widths"]],
        last: bool = False,
    ) -> Float[Tensor, "texts places vocabulary"]:
        """See `Decoder.next_tokens`."""
        readers = [partial(reader, read=each) for reader, each in zip(self._readers(), read)]
        return self(text(ids, "normed", self._between(readers)).tokens, read, last)

    def training_states(
        self,
        text: Tower[Any],
        ids: Int[Tensor, "texts length"],
        words: Float[Tensor, "texts length width"],
        pictures: Float[Tensor, "texts tokens picture_width"],
    ) -> Float[Tensor, "texts length width"]:
        """See `Decoder.training_states`; `words`, which saw the whole text, aren't read."""
        own = self.pictures(pictures)
        readers = [partial(reader, pictures=own) for reader in self._readers()]
        return text(ids, "normed", self._between(readers)).tokens

    def logits(self, states: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """See `Decoder.logits`."""
        return self.projection(states)

    @property
    def units(self) -> list[nn.Module]:
        """See `Decoder.units`: the readers."""
        return list(self.readers)

    def _between(self, readers: Sequence[Reader]) -> list[Reader | None]:
        """One place behind each of the text tower's blocks."""
        places: list[Reader | None] = [None] * self.config.layers
        places[:: self.config.every] = readers
        return places

    def _readers(self) -> Iterator[CrossBlock]:
        for reader in self.readers:
            assert isinstance(reader, CrossBlock)
            yield reader

    def flops(self) -> int:
        """Of one caption of full length and a picture of 256 tokens, without the text tower's pass;
        a multiply-add counts two."""
        c = self.config
        length, width = c.context_length, c.width
        readers = c.readers * cross_flops(length, _PATCHES, width, c.mlp_width)
        pictures = 2 * _PATCHES * c.picture_width * width
        return readers + pictures + 2 * length * width * c.vocab_size
