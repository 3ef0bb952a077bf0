"""MobileCLIP's text towers (Vasu et al. 2024, arXiv:2311.17049)."""

from dataclasses import dataclass

from diptych.config import Activation
from diptych.config.ranges import Context, Count, Layers, Share, Width
from diptych.errors import ConfigError
from diptych.families.clip.config import TransformerTextConfig


@dataclass(frozen=True, kw_only=True)
class MobileTextConfig(TransformerTextConfig):
    """CLIP's text transformer, but that each token sees all others, the padding's included, so
    texts are padded to the context. It is read out at the end-of-text token, too."""

    implementation = "diptych.families.mobileclip.text:MobileTextTower"
    padding = "seen"

    context_length: Context = 77
    vocab_size: Width = 49408
    width: Width = 512
    layers: Layers = 12
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
    mixer_kernel: Count = 0
    """Words that one of the convolutional blocks sees, of which one stands before the transformer
    and one behind it (MobileCLIP-S0: 11); 0: there are none."""

    def __post_init__(self):
        super().__post_init__()
        if self.mixer_kernel and not self.mixer_kernel % 2:
            raise ConfigError(f"mixer_kernel {self.mixer_kernel} must be odd, or 0")
