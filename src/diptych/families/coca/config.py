"""CoCa's towers and its decoder (Yu et al. 2022, arXiv:2205.01917), as open_clip has them."""

from dataclasses import dataclass, field
from typing import Literal

from diptych.components import ADDED
from diptych.config import Activation, DecoderConfig, ImageTowerConfig
from diptych.config.ranges import Context, Count, Layers, Pixels, Share, Width, check_ids
from diptych.errors import ConfigError
from diptych.families.clip.config import TransformerTextConfig
from diptych.families.timm import NaflexVitConfig


@dataclass(frozen=True, kw_only=True)
class PooledVitConfig(ImageTowerConfig, abstract=True):
    """CLIP's vision transformer; in place of its class token, what learned queries read of all
    tokens."""

    image_size: Pixels = 224
    patch_size: Pixels = 32
    width: Width = 768
    layers: Layers = 12
    heads: Width = 12
    mlp_width: Width = 3072
    activation: Activation = "gelu"
    pre_norm: bool = True
    """A LayerNorm between the position table and the first block."""
    queries: Width = 256
    """Of the pool whose answers the decoder reads."""
    pool_heads: Width = 8
    norm_eps: Share = 1e-5

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
class CocaImageConfig(PooledVitConfig):
    """With one pool: the first of its queries is for the contrast, the others for the decoder. So
    the published models are."""

    implementation = "diptych.families.coca.image:CocaImageTower"
    weights = "diptych.families.coca.weights:CocaImageWeights"


@dataclass(frozen=True, kw_only=True)
class Coca2ImageConfig(PooledVitConfig):
    """With a pool for the decoder, and one of a single query for the contrast, as the paper has it
    (§3.2). Both answer in the shared space, and nothing is behind them."""

    implementation = "diptych.families.coca.two_pools:Coca2ImageTower"
    weights = "diptych.families.coca.weights:Coca2ImageWeights"

    pools: Literal["cascade", "parallel"] = "cascade"
    """What the query for the contrast reads. `cascade`: the answers to the decoder's queries.
    `parallel`: the tokens, as those do."""


@dataclass(frozen=True, kw_only=True)
class CocaNaflexConfig(ImageTowerConfig):
    """The same two pools over a tower of timm's for pictures of their own aspect (NaFlex)."""

    implementation = "diptych.families.coca.naflex:CocaNaflexTower"
    native = True

    image_size: Pixels = 224
    """Of no meaning, as of the `trunk`."""
    trunk: NaflexVitConfig
    """What the pools read, and nothing else (`reads_out`)."""
    queries: Width = 256
    pool_heads: Width = 8
    pools: Literal["cascade", "parallel"] = "cascade"
    """See `Coca2ImageConfig`."""

    def __post_init__(self):
        super().__post_init__()
        if self.trunk.reads_out:
            raise ConfigError("trunk.reads_out must be False: CoCa's pools are what reads patches")


@dataclass(frozen=True, kw_only=True)
class CocaTextConfig(TransformerTextConfig):
    """CLIP's text transformer with a class token behind the text, at which it is read out."""

    implementation = "diptych.families.coca.text:CocaTextTower"
    weights = "diptych.families.coca.weights:CocaTextWeights"

    context_length: Context = 76
    """Without the class token."""
    vocab_size: Width = 49408
    width: Width = 512
    layers: Layers = 12
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5
    pad_id: Count = 0
    exact_padding: bool = field(default=False, metadata=ADDED)
    """Whether it is the padding that no token sees (open_clip's `correct_cls_mask`). Without, it is
    what stands one place later, as the published models were trained."""

    def __post_init__(self):
        super().__post_init__()
        check_ids(self.vocab_size, pad_id=self.pad_id)


@dataclass(frozen=True, kw_only=True)
class CocaDecoderConfig(DecoderConfig):
    """Blocks that read the text so far, each followed by one that reads the picture's tokens."""

    implementation = "diptych.families.coca.decoder:CocaDecoder"
    weights = "diptych.families.coca.weights:CocaDecoderWeights"

    context_length: Context = 76
    vocab_size: Width = 49408
    width: Width = 512
    """Also of the picture's tokens, and of the text's."""
    layers: Layers = 12
    heads: Width = 8
    mlp_width: Width = 2048
    activation: Activation = "gelu"
    norm_eps: Share = 1e-5

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
