"""CLIPA's text tower (Li et al. 2023, arXiv:2305.07017)."""

from dataclasses import dataclass

from diptych.config import Activation
from diptych.config.ranges import Context, Layers, Share, Width
from diptych.families.clip.config import TwoWayTextConfig


@dataclass(frozen=True, kw_only=True)
class ClipaTextConfig(TwoWayTextConfig):
    """A text transformer in which each token sees all others, the padding's included; it is read
    out at the last place, and projected without a bias."""

    implementation = "diptych.families.clipa.text:ClipaTextTower"

    context_length: Context = 32
    vocab_size: Width = 32000
    """More than BERT's tokenizer has (30,522): the rest is never seen."""
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
