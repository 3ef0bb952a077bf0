"""MaMMUT's decoder in two parts: what both of its passes need, and what only that of captions does
(Kuo et al. 2023, arXiv:2303.16839)."""

from dataclasses import dataclass
from typing import Literal

from diptych.config import Activation
from diptych.config.ranges import Context, Count, Layers, Share, Width, check_ids
from diptych.config.two_pass import TwoPassDecoderConfig
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

    def __post_init__(self):
        super().__post_init__()
        check_ids(self.vocab_size, pad_id=self.pad_id)


@dataclass(frozen=True, kw_only=True)
class MammutDecoderConfig(TwoPassDecoderConfig):
    """Blocks that read the picture's tokens, each behind one of the text tower's."""

    implementation = "diptych.families.mammut.decoder:MammutDecoder"

    context_length: Context = 77
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
