"""PE-Core's image tower (Bolya et al. 2025, arXiv:2504.13181)."""

from dataclasses import dataclass

from diptych.config import Activation, ImageTowerConfig
from diptych.config.ranges import Layers, Pixels, Share, Width
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PeImageConfig(ImageTowerConfig):
    """A vision transformer with learned and rotary positions, read out by an attention pool over
    all tokens, and a projection behind it."""

    implementation = "diptych.families.pe.image:PeImageTower"
    weights = "diptych.families.pe.weights:PeImageWeights"

    image_size: Pixels = 224
    patch_size: Pixels = 16
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
    class_token: bool = True
    """The largest model has none. With one, the patches' rotary places begin at 1."""
    rotary_grid: Pixels = 14
    """Side of the grid of patches at which the rotary frequencies are defined; other grids are
    interpolated."""
    pool_heads: Width = 8
    pool_mlp_width: Width = 3072

    def __post_init__(self):
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        for name, heads in (("heads", self.heads), ("pool_heads", self.pool_heads)):
            if self.width % heads:
                raise ConfigError(f"width {self.width} is not a multiple of {name} {heads}")
        if self.width // self.heads % 4:
            raise ConfigError(
                "rotary positions need heads of a multiple of 4 channels, "
                f"not {self.width // self.heads}"
            )

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size
