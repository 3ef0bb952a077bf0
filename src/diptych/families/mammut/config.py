"""MaMMUT's decoder in two parts: what both of its passes need, and what only that of captions does
(Kuo et al. 2023, arXiv:2303.16839)."""

from dataclasses import dataclass
from typing import Literal

from diptych.config import Activation, DecoderConfig
from diptych.config.ranges import Context, Count, Layers, Share, Width
from diptych.errors import ConfigError
from diptych.families.clip.config import TransformerTextConfig


@dataclass(frozen=True, kw_only=True)
class MammutTextConfig(TransformerTextConfig):
    """Blocks in which each token sees all others, for the contrast: the vector is the mean of the
    tokens. In front of the decoder's readers the same blocks are causal."""

    implementation = "diptych.families.mammut.text:MammutTextTower"
    weights = "diptych.families.clip.weights:TwoWayTextWeights"
    padding = "seen"
    decoded = "normed"

    context_length: Context = 77
    vocab_size: Width = 49408
    width: Width = 512
    layers: Layers = 12
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
    pad_id: Count = 0
    pool: Literal["real", "all"] = "real"
    """Whose mean the vector is. `real`: the tokens that aren't padding. `all`: all places of the
    context, as in LAION's models."""
    masked: bool = True
    """Whether no token sees padding; in LAION's models each does."""
    projection: bool = False
    """From the mean to the shared space; without, that is as wide as the tower."""
    lean_every: Count = 0
    """Of blocks 0, lean_every, 2 lean_every, ..., attention is all; 0: every block has an MLP.
    LAION's smaller models have none in front of a reader."""


@dataclass(frozen=True, kw_only=True)
class MammutDecoderConfig(DecoderConfig):
    """Blocks that read the picture's tokens, each behind one of the text tower's."""

    implementation = "diptych.families.mammut.decoder:MammutDecoder"

    context_length: Context = 77
    vocab_size: Width = 49408
    width: Width = 512
    """Of the text tower, too."""
    picture_width: Width = 768
    """Of the image tower's tokens."""
    layers: Layers = 12
    """Of the text tower."""
    every: Layers = 2
    """Readers stand behind blocks 0, every, 2 every, ... of the text tower."""
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
    pictures: Literal["raw", "normed"] = "raw"
    """Which tokens of pictures are read: in front of the image tower's last norm, or behind it."""

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.every > self.layers:
            raise ConfigError(f"every {self.every} is above layers {self.layers}")

    @property
    def reads(self) -> Literal["raw", "normed"]:
        """`pictures`."""
        return self.pictures

    @property
    def readers(self) -> int:
        """How many there are."""
        return -(-self.layers // self.every)
