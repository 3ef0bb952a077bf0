"""What decoders have whose text tower is the rest of them (MaMMUT, Kuo et al. 2023,
arXiv:2303.16839)."""

from dataclasses import dataclass
from typing import Literal

from diptych.config.model import DecoderConfig
from diptych.config.ranges import Layers, Width
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TwoPassDecoderConfig(DecoderConfig, abstract=True):
    """The base of decoders that read pictures between the text tower's layers."""

    vocab_size: Width = 49408
    width: Width = 512
    """Of the text tower, too."""
    picture_width: Width = 768
    """Of the image tower's tokens."""
    layers: Layers = 12
    """Of the text tower."""
    every: Layers = 2
    """Readers stand in layers 0, every, 2 every, ... of the text tower."""
    pictures: Literal["raw", "normed"] = "raw"
    """Which tokens of pictures are read: in front of the image tower's last norm, or behind it."""

    def __post_init__(self):
        super().__post_init__()
        if self.every > self.layers:
            raise ConfigError(f"every {self.every} is above layers {self.layers}")

    @property
    def reads(self) -> Literal["raw", "normed"]:
        """`pictures`."""
        return self.pictures

    @property
    def reader_layers(self) -> range:
        """Those in which a reader stands."""
        return range(0, self.layers, self.every)
