"""EVA's vision transformer, in all its generations."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from diptych.config import ImageTowerConfig
from diptych.config.ranges import Factor, Layers, Pixels, Share, Width
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EvaConfig(ImageTowerConfig):
    """EVA's vision transformer (Sun et al. 2023 and 2024, arXiv:2303.15389, arXiv:2402.04252)."""

    implementation = "diptych.families.eva.model:EvaTransformer"
    weights = "diptych.families.eva.weights:EvaWeights"
    retired = MappingProxyType({"patch_dropout": 0.0, "stochastic_depth": 0.0})

    image_size: Pixels = 224
    patch_size: Pixels = 14
    width: Width = 1024
    layers: Layers = 24
    heads: Width = 16
    mlp_width: Width = 4096
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """`swiglu`: silu(gate) * up, then down (Shazeer 2020, arXiv:2002.05202)."""
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: Share = 1e-6
    norm_place: Literal["pre", "post"] = "pre"
    """`pre`: x + f(norm(x)). `post`: x + norm(f(x)), the residual post-norm of Swin v2
    (arXiv:2111.09883)."""
    attention_norm: bool = False
    """A norm of the joined heads, before attention's output projection (sub-LN,
    arXiv:2210.06423)."""
    mlp_norm: bool = False
    """A norm of the hidden layer, before the MLP's output projection (sub-LN)."""
    qkv_bias: bool = True
    """Of queries and values; keys never have one."""
    projection_bias: bool = True
    rotary_grid: Pixels | None = None
    """Side of the grid of patches at which the two-dimensional rotary frequencies are defined
    (RoPE, arXiv:2104.09864); other grids are interpolated. None: no rotary positions."""
    layer_scale: Factor | None = None
    """Initial gain of each residual branch (arXiv:2103.17239); None: no gains."""
    pool: Literal["cls", "mean", "patches"] = "cls"
    """`cls`: norm, then the class token. `mean`, `patches`: the mean of all tokens or of all but
    the class token, then norm."""

    def __post_init__(self):
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.rotary_grid is not None and self.width // self.heads % 4:
            raise ConfigError(
                "rotary positions need heads of a multiple of 4 channels, "
                f"not {self.width // self.heads}"
            )
