"""What a model is: two towers, the space they share, and how their inputs are made.

Only what changes the numbers stands here. Which kernel computes attention is not architecture.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.config.unireplknet import UniRepLKNetConfig
from diptych.errors import ConfigError

Activation = Literal["gelu", "quick_gelu"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """A vision transformer as CLIP builds it (Radford et al. 2021, arXiv:2103.00020)."""

    image_size: int = 224
    """Side of the square input, in pixels."""
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: Activation = "gelu"
    pool: Literal["cls", "mean"] = "cls"
    """`cls`: a class token is prepended and read out. `mean`: no class token; the patches' mean."""
    pre_norm: bool = True
    """A LayerNorm between the position table and the first block."""
    stem_widths: tuple[int, ...] = ()
    """Empty: one strided convolution makes the patches. Otherwise 3x3 stride-2 convolutions with
    batch normalisation of these widths, then a 1x1 one (Xiao et al. 2021, arXiv:2106.14881);
    `patch_size` must be 2 ** len(stem_widths)."""
    norm_eps: float = 1e-5
    patch_dropout: float = 0.0
    """Share of patches left out in training (FLIP, arXiv:2212.00794)."""

    def __post_init__(self):
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.stem_widths and self.patch_size != 2 ** len(self.stem_widths):
            raise ConfigError(
                f"patch_size {self.patch_size} must be 2 ** {len(self.stem_widths)} for stem_widths {self.stem_widths}"
            )
        if not 0 <= self.patch_dropout < 1:
            raise ConfigError(f"patch_dropout {self.patch_dropout} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class EvaConfig:
    """EVA's vision transformer (Sun et al. 2023 and 2024, arXiv:2303.15389, arXiv:2402.04252)."""

    image_size: int = 224
    patch_size: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """`swiglu`: silu(gate) * up, then down (Shazeer 2020, arXiv:2002.05202)."""
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
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
    rotary_grid: int | None = None
    """Side of the grid of patches at which the two-dimensional rotary frequencies are defined
    (RoPE, arXiv:2104.09864); other grids are interpolated. None: no rotary positions."""
    layer_scale: float | None = None
    """Initial gain of each residual branch (arXiv:2103.17239); None: no gains."""
    pool: Literal["cls", "mean", "patches"] = "cls"
    """`cls`: norm, then the class token. `mean`, `patches`: the mean of all tokens or of all but
    the class token, then norm."""
    patch_dropout: float = 0.0
    """Share of patches left out in training (FLIP, arXiv:2212.00794)."""
    stochastic_depth: float = 0.0
    """Share of samples for which the last block's branches are left out in training; it grows
    linearly from 0 at the first block (arXiv:1603.09382)."""

    def __post_init__(self):
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.rotary_grid is not None and self.width // self.heads % 4:
            raise ConfigError(
                f"rotary positions need heads of a multiple of 4 channels, not {self.width // self.heads}"
            )
        for name in ("patch_dropout", "stochastic_depth"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """CLIP's modified ResNet: three-convolution stem, anti-aliased strides, attention pool
    (arXiv:2103.00020 §2.4)."""

    image_size: int = 224
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64
    heads: int = 32
    """Heads of the attention pool."""
    head: Literal["attention", "linear"] = "attention"
    """What maps to the shared space: the pool's own output, or a linear layer behind it (DeCLIP's
    second ResNet)."""

    def __post_init__(self):
        if self.image_size % 32:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of 32")


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """Any image tower of the `timm` library, with a linear projection to the shared space."""

    name: str
    """timm's name, such as `convnext_tiny`."""
    image_size: int = 224
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for `timm.create_model`."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """CLIP's text transformer: causal, pre-norm, read out at the end-of-text token."""

    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp_width: int = 2048
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    projection_bias: bool = False
    """DeCLIP's projection has one."""

    def __post_init__(self):
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class HuggingFaceTextConfig:
    """Any text encoder of the `transformers` library, pooled and projected to the shared space."""

    model_type: str
    """transformers' model type, such as `bert`, `roberta`, `xlm-roberta`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of that model's configuration."""
    context_length: int = 77
    pool: Literal["mean", "cls"] = "mean"
    """`mean`: over the tokens that are not padding."""
    pad_id: int = 0


ImageTowerConfig = VitConfig | EvaConfig | ResNetConfig | UniRepLKNetConfig | TimmConfig
TextTowerConfig = TextConfig | HuggingFaceTextConfig


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """From any picture to the tower's square input, in evaluation."""

    resize: Literal["shortest", "squash", "longest"] = "shortest"
    """`shortest`: shortest side to size, then centre crop. `squash`: both sides to size. `longest`:
    longest side to size, then pad."""
    crop_share: float = 1.0
    """Of `shortest`: the share of the resized picture's shorter side that the crop keeps; 224 of
    256 pixels: 0.875."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: int = 0
    """Grey level (0-255) of the padding of `longest`."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def __post_init__(self):
        if not 0 < self.crop_share <= 1:
            raise ConfigError(f"preprocess.crop_share {self.crop_share} must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """From a caption to ids."""

    kind: Literal["clip", "declip", "huggingface"] = "clip"
    """`clip`: OpenAI's byte-pair vocabulary. `declip`: with a mask token, and the other
    special ids one further. `huggingface`: the tokenizer that `name` says."""
    name: str = ""
    """For `huggingface`: a folder or `org/name`."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """One complete model. Everything that a stranger needs to use the weights rightly is in
    here."""

    image: ImageTowerConfig = VitConfig()
    text: TextTowerConfig = TextConfig()
    embed_dim: int = 512
    token_dim: int | None = None
    """Width of the space where single patches and words are compared (FILIP, arXiv:2111.07783);
    None: there is none."""
    logit_scale: float = math.log(1 / 0.07)
    """Initial value, as a logarithm."""
    logit_bias: float | None = None
    """Initial value; None: the model has no bias. SigLIP starts at -10."""
    preprocess: PreprocessConfig = PreprocessConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
