"""GenLIP's image towers (Fang et al. 2026, "Let ViT Speak", arXiv:2605.00809)."""

from dataclasses import dataclass
from typing import Literal

from diptych.config import ImageTowerConfig
from diptych.config.ranges import Above, Count, Layers, Pixels, Share, Width
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class GenlipSizes(ImageTowerConfig, abstract=True):
    """A vision transformer that was trained to write captions: its blocks read patches and words
    alike. Positions are rotations along three axes, attention is gated, and the vector is the mean
    of the patches."""

    image_size: Pixels = 224
    patch_size: Pixels = 16
    width: Width = 1152
    layers: Layers = 27
    heads: Width = 16
    mlp_width: Width = 3072
    activation: Literal["silu", "gelu", "relu"] = "silu"
    """Of the perceptrons, or of what gates them."""
    gated_mlp: bool = True
    gated_attention: bool = True
    """What attention gives is multiplied by a sigmoid of the token that asks."""
    qk_norm: bool = False
    """Queries and keys are normed before they are turned."""
    rotary_sections: tuple[Count, Count, Count] = (12, 12, 12)
    """Pairs of a head's channels that turn by time, row and column; together half a head's
    width. Patches have no time: theirs is 0."""
    rotary_theta: Above = 10000.0
    layer_scale: Above | None = 0.1
    """A factor on each channel of a branch at first; None: there is none."""
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: Share = 1e-6
    attention_bias: bool = True
    mlp_bias: bool = True
    patch_bias: bool = True
    pre_norm: bool = False
    """Patches are normed before the first block."""

    def __post_init__(self):
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        check_sections(self.rotary_sections, self.width // self.heads)

    @property
    def side(self) -> int:
        """Patches along one side of the square."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class GenlipImageConfig(GenlipSizes):
    """For squares: the authors' first stage of training."""

    implementation = "diptych.families.genlip.image:GenlipImageTower"
    weights = "diptych.families.genlip.weights:GenlipWeights"


@dataclass(frozen=True, kw_only=True)
class GenlipNaflexConfig(GenlipSizes):
    """For pictures of their own aspect, as patches: the second stage, and open_clip's. How many
    patches a picture has at the most isn't the tower's, but `PreprocessConfig.patches`."""

    implementation = "diptych.families.genlip.naflex:GenlipNaflexTower"
    weights = "diptych.families.genlip.weights:GenlipNaflexWeights"
    native = True

    image_size: Pixels = 256
    """Of the square by whose patches operations are counted."""
    input_norm: bool = False
    """The numbers of each patch are normed before they are projected."""


def check_sections(sections: tuple[int, ...], head: int) -> None:
    """Raises ConfigError unless the `sections` of a rotation have all pairs of a head of so many
    channels.

    >>> from diptych.families.genlip.config import check_sections
    >>> check_sections((2, 2, 2), 16)
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: rotary sections (mrope_section) (2, 2, 2) have 6 pairs of \
channels, and a head of 16 channels has 8: they must be the same
    """
    if sum(sections) != head // 2 or head % 2:
        raise ConfigError(
            f"rotary sections (mrope_section) {tuple(sections)} have {sum(sections)} pairs of "
            f"channels, and a head of {head} channels has {head // 2}: they must be the same"
        )
