"""CLIP's towers (Radford et al. 2021, arXiv:2103.00020), on which most other families build."""

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from diptych.components import ADDED
from diptych.config import Activation, ImageTowerConfig, TextTowerConfig
from diptych.config.ranges import (
    Context,
    Count,
    Factor,
    Layers,
    Pixels,
    Share,
    Width,
    check_ids,
)
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class VitConfig(ImageTowerConfig):
    """A vision transformer as CLIP builds it (Radford et al. 2021, arXiv:2103.00020)."""

    implementation = "diptych.families.clip.vit:VisionTransformer"
    weights = "diptych.families.clip.weights:VitWeights"
    retired = MappingProxyType({"patch_dropout": 0.0})

    image_size: Pixels = 224
    """Side of the square input, in pixels."""
    patch_size: Pixels = 32
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    activation: Activation = "gelu"
    pool: Literal["cls", "mean", "patches", "all"] = "cls"
    """`cls`: a class token is prepended and read out. `mean`: no class token; the patches' mean.
    `patches`: their mean, too, beside a class token (CLIPA, arXiv:2305.07017). `all`: the mean of
    the patches and the class token (LAION's MaMMUT, arXiv:2506.04598)."""
    pre_norm: bool = True
    """A LayerNorm between the position table and the first block."""
    stem_widths: tuple[Width, ...] = ()
    """Empty: one strided convolution makes the patches. Otherwise 3x3 stride-2 convolutions with
    batch normalisation of these widths, then a 1x1 one (Xiao et al. 2021, arXiv:2106.14881);
    `patch_size` must be 2 ** len(stem_widths)."""
    norm_eps: Share = 1e-5
    layer_scale: Factor | None = field(default=None, metadata=ADDED)
    """What the scales of branches begin with (arXiv:2103.17239); None: there are none."""

    def __post_init__(self):
        super().__post_init__()
        # Some were published with a margin that makes no patch: OpenVision's, 384 pixels of 14.
        if self.image_size % self.patch_size and self.pool not in ("patches", "all"):
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.image_size < self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is below patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.stem_widths and self.patch_size != 2 ** len(self.stem_widths):
            raise ConfigError(
                f"patch_size {self.patch_size} must be 2 ** {len(self.stem_widths)} "
                f"for stem_widths {self.stem_widths}"
            )

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ImageTowerConfig):
    """CLIP's modified ResNet: three-convolution stem, anti-aliased strides, attention pool
    (arXiv:2103.00020 §2.4)."""

    implementation = "diptych.families.clip.resnet:ResNet"
    weights = "diptych.families.clip.weights:ResNetWeights"

    image_size: Pixels = 224
    layers: tuple[Layers, Layers, Layers, Layers] = (3, 4, 6, 3)
    width: Width = 64
    heads: Width = 32
    """Heads of the attention pool."""
    head: Literal["attention", "linear"] = "attention"
    """What maps to the shared space: the pool's own output, or a linear layer behind it (DeCLIP's
    second ResNet)."""

    def __post_init__(self):
        super().__post_init__()
        if self.image_size % 32:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of 32")
        if 32 * self.width % self.heads:
            raise ConfigError(
                f"the attention pool is 32 times as wide as width {self.width}, and that is not a "
                f"multiple of heads {self.heads}"
            )


@dataclass(frozen=True, kw_only=True)
class TransformerTextConfig(TextTowerConfig, abstract=True):
    """What the configurations of text transformers have in common."""

    vocab_size: Width
    width: Width
    layers: Layers
    heads: Width
    mlp_width: Width
    activation: Activation
    norm_eps: Share

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def vocabulary(self) -> int:
        """`vocab_size`."""
        return self.vocab_size

    def with_vocabulary(self, size: int) -> "TransformerTextConfig":
        """With this `vocab_size`."""
        return replace(self, vocab_size=size)


@dataclass(frozen=True, kw_only=True)
class TwoWayTextConfig(TransformerTextConfig, abstract=True):
    """The base of text transformers in which each token sees all others, the padding's included,
    and which are read out at the last place: so texts are padded to the context."""

    weights = "diptych.families.clip.weights:TwoWayTextWeights"
    padding = "seen"


@dataclass(frozen=True, kw_only=True)
class TextConfig(TransformerTextConfig):
    """CLIP's text transformer: causal, pre-norm, read out at the end-of-text token."""

    implementation = "diptych.families.clip.text:TextTransformer"
    weights = "diptych.families.clip.weights:TextWeights"
    padding = "ignored"
    decoded = "normed"

    context_length: Context = 77
    vocab_size: Width = 49408
    width: Width = 512
    layers: Layers = 12
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
    projection_bias: bool = False
    """DeCLIP's projection has one."""
    end_id: Count | None = field(default=None, metadata=ADDED)
    """The id of the end of text; None: the highest of a text's, as CLIP's is of its vocabulary."""
    layer_scale: Factor | None = field(default=None, metadata=ADDED)
    """What the scales of branches begin with (arXiv:2103.17239); None: there are none."""

    def __post_init__(self):
        super().__post_init__()
        check_ids(self.vocab_size, end_id=self.end_id)

    @property
    def read_at(self) -> int | None:
        """`end_id`."""
        return self.end_id
