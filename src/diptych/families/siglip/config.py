"""SigLIP's towers (Zhai et al. 2023, arXiv:2303.15343)."""

from dataclasses import dataclass, field
from typing import Literal

from diptych.components import ADDED
from diptych.config import Activation, ImageTowerConfig
from diptych.config.ranges import Context, Layers, Pixels, Share, Width
from diptych.errors import ConfigError
from diptych.families.clip.config import TwoWayTextConfig


@dataclass(frozen=True, kw_only=True)
class PooledImageConfig(ImageTowerConfig, abstract=True):
    """A vision transformer without a class token, read out by an attention pool. Its vectors are as
    wide as its tokens: it has no projection."""

    image_size: Pixels = 224
    patch_size: Pixels = 16
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    activation: Activation = "gelu_tanh"
    norm_eps: Share = 1e-6

    def __post_init__(self):
        super().__post_init__()
        if self.image_size < self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is below patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def side(self) -> int:
        """Patches along one side. Pixels that make no whole patch (384 of 14) are left out."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class SiglipImageConfig(PooledImageConfig):
    """For squares."""

    implementation = "diptych.families.siglip.image:SiglipImageTower"
    weights = "diptych.families.siglip.weights:SiglipImageWeights"


@dataclass(frozen=True, kw_only=True)
class NaflexImageConfig(PooledImageConfig):
    """For pictures of their own aspect, as patches (SigLIP 2's NaFlex, arXiv:2502.14786, §2.4.2):
    the table of positions is interpolated to each picture's grid. How many patches a picture has
    at the most isn't the tower's, but `PreprocessConfig.patches`."""

    implementation = "diptych.families.siglip.naflex:NaflexImageTower"
    weights = "diptych.families.siglip.weights:PooledImageWeights"
    native = True

    image_size: Pixels = 256
    """Of the square whose patches the table of positions has one each for."""
    interpolation: Literal["bilinear", "bicubic"] = field(default="bilinear", metadata=ADDED)
    """Of the table. SigLIP 2's is bilinear; timm's is bicubic where it makes such a tower of one
    for squares."""


@dataclass(frozen=True, kw_only=True)
class SiglipTextConfig(TwoWayTextConfig):
    """A text transformer in which each token sees all others, the padding's included; it is read
    out at the last place, so texts are padded to the context."""

    implementation = "diptych.families.siglip.text:SiglipTextTower"

    context_length: Context = 64
    vocab_size: Width = 32000
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    activation: Activation = "gelu_tanh"
    norm_eps: Share = 1e-6
    projection: bool = True
    """A linear map with a bias behind the last norm; the multilingual So400m has none."""
