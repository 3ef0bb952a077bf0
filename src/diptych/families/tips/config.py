"""TIPS's towers (Maninis et al. 2024, arXiv:2410.16512; Cao et al. 2026, arXiv:2604.12012)."""

from dataclasses import dataclass, replace
from typing import Literal

from diptych.config import ImageTowerConfig, TextTowerConfig
from diptych.config.ranges import Context, Count, Layers, Pixels, Share, Width, check_ids
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TipsImageConfig(ImageTowerConfig):
    """A vision transformer read out at its class token, with a gain on each branch and further
    class tokens, the registers. Its vectors are as wide as its tokens: it has no projection."""

    implementation = "diptych.families.tips.image:TipsImageTower"
    weights = "diptych.families.tips.weights:TipsImageWeights"

    image_size: Pixels = 448
    patch_size: Pixels = 14
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """The perceptrons: two layers with GELU between them, or gated ones."""
    registers: Count = 1
    """Tokens between the class token and the patches, without positions. The published models have
    one, which was trained on synthetic captions as the class token was on those of the web."""
    norm_eps: Share = 1e-6

    def __post_init__(self):
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class TipsTextConfig(TextTowerConfig):
    """A text transformer in which each token sees all others but the padding, with ReLU and
    sinusoidal positions; it is read out at the mean of its tokens, and has no projection."""

    implementation = "diptych.families.tips.text:TipsTextTower"
    weights = "diptych.families.tips.weights:TipsTextWeights"

    context_length: Context = 64
    vocab_size: Width = 32000
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    norm_eps: Share = 1e-5
    pad_id: Count = 0
    """The id of the padding."""

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width % 2:
            raise ConfigError(
                f"width {self.width} is odd; positions are pairs of a sine and a cosine"
            )
        check_ids(self.vocab_size, pad_id=self.pad_id)

    @property
    def vocabulary(self) -> int:
        """`vocab_size`."""
        return self.vocab_size

    def with_vocabulary(self, size: int) -> "TipsTextConfig":
        """With this `vocab_size`."""
        return replace(self, vocab_size=size)
