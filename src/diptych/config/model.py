"""What a model is: two towers, the space they share, and how their inputs are made.

Only what changes the numbers stands here. Which kernel computes attention is not architecture; nor
is what only training does, such as patch dropout (`TowerOptions`). Towers stand in `families/`.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from diptych.components import ADDED, Component
from diptych.config.ranges import (
    Above,
    Context,
    Finite,
    Grey,
    Patches,
    Pixels,
    Ranged,
    ShareOfSome,
    Width,
)
from diptych.errors import ConfigError

Side = Literal["image", "text"]
"""Of the two towers, one."""
Activation = Literal["gelu", "quick_gelu", "gelu_tanh"]
Cleaning = Literal["spaces", "lower", "canonical", "none"]
"""See `TokenizerConfig.clean`."""

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

SIGLIP_BIAS = -10.0
"""SigLIP's logit bias at the start of training (arXiv:2303.15343, §3.2)."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig(Ranged, Component, abstract=True):
    """The base of every tower's configuration: its implementation is a `models.Tower`, made of the
    configuration and the width of the shared space."""

    weights: ClassVar[str] = "diptych.weights.tower:TowerWeights"
    """What is known of its weights: how they are resized, and how a configuration is inferred from
    them. The default knows nothing, and says so where it is asked."""
    catalogue = "diptych.families:tower_configs"
    present: ClassVar[bool] = True
    """Whether there is a tower; where there is none: `config.alone`."""


@dataclass(frozen=True, kw_only=True)
class ImageTowerConfig(TowerConfig, abstract=True):
    """The base of image towers' configurations."""

    image_size: Pixels = 224
    """Side of the square input that preprocessing makes, in pixels."""
    native: ClassVar[bool] = False
    """Whether it takes pictures of their own aspect, as patches (`PreprocessConfig.resize`:
    `native`)."""


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig(TowerConfig, abstract=True):
    """The base of text towers' configurations."""

    context_length: Context = 77
    """Tokens of a text at the most."""

    padding: ClassVar[Literal["ignored", "masked", "seen"]] = "masked"
    """What becomes of what is behind a text's end. `ignored`: it changes no number, so it may be
    left out, and the tower takes the texts' `lengths` (`Clip.read_text`). `masked`: the tower knows
    it by its id. `seen`: it changes the vector, so all texts are padded to the context, as they
    were in training."""

    decoded: ClassVar[Literal["raw", "normed"]] = "raw"
    """Which of its tokens a decoder goes on from."""

    @property
    def vocabulary(self) -> int | None:
        """How many ids the tower knows; None: only the library that it comes from can tell."""
        return None

    @property
    def read_at(self) -> int | None:
        """The id of the token that a text is read out at; None: it goes by another rule than an
        id."""
        return None

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The ids that a text begins and ends with; None: the tokenizer tells."""
        return None

    @property
    def sees_ahead(self) -> bool:
        """Whether a text's tokens can't be shown to a decoder, which would read in them the words
        that it is to write."""
        return False

    def with_vocabulary(self, size: int) -> "TextTowerConfig":
        """The same tower for so many ids. Raises ConfigError for one of another library."""
        raise ConfigError(f"the vocabulary of a {type(self).__name__} is its library's own")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(TowerConfig, abstract=True):
    """The base of decoders' configurations, which write captions of pictures: the implementation is
    a `models.Decoder`, made of the configuration alone."""

    context_length: Context = 77
    """Tokens of a caption at the most."""

    @property
    def reads(self) -> Literal["raw", "normed"]:
        """Which of the image tower's tokens, without class tokens."""
        return "normed"


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(Ranged):
    """From any picture to the tower's input, in evaluation: a square, or patches."""

    resize: Literal["shortest", "squash", "longest", "native"] = "shortest"
    """`shortest`: shortest side to size, then centre crop. `squash`: both sides to size. `longest`:
    longest side to size, then pad. `native`: its own aspect, as large as `patches` allow (NaFlex;
    SigLIP 2, arXiv:2502.14786, §2.4.2)."""
    crop_share: ShareOfSome = 1.0
    """Of `shortest`: the share of the resized picture's shorter side that the crop keeps; 224 of
    256 pixels: 0.875."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: Grey = 0
    """Grey level (0-255) of the padding of `longest`."""
    mean: tuple[Finite, Finite, Finite] = OPENAI_MEAN
    std: tuple[Above, Above, Above] = OPENAI_STD
    patches: Patches = field(default=256, metadata=ADDED)
    """Of `native`: the most patches of a picture; shorter rows are padded to as many."""
    patch_size: Pixels = field(default=16, metadata=ADDED)
    """Of `native`: the side of a patch, in pixels; the tower's."""

    def __post_init__(self):
        super().__post_init__()
        if self.resize == "native" and self.patch_size < 2:
            raise ConfigError("preprocess.patch_size 1 is too small for patches of a native aspect")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """From a caption to ids."""

    kind: Literal["clip", "declip", "huggingface", "tiktoken"] = "clip"
    """`clip`: OpenAI's byte-pair vocabulary. `declip`: with a mask token, and the other
    special ids one further. `huggingface`: the tokenizer that `name` says. `tiktoken`: the encoding
    that `name` says, and behind its ids those of end, padding and start."""
    name: str = ""
    """For `huggingface`: a folder or `org/name`. For `tiktoken`: `r50k_base`, say."""
    clean: Cleaning = field(default="spaces", metadata=ADDED)
    """For `huggingface` and `tiktoken`: what of a caption is lost before, beside broken encodings,
    HTML entities and doubled white space. `lower`: its case. `canonical`: case and ASCII
    punctuation (SigLIP). `none`: nothing at all."""
    blank_separator: bool = field(default=False, metadata=ADDED)
    """For `huggingface`: the separator behind a text, BERT's `[SEP]`, becomes a 0 (CLIPA)."""
    class_last: bool = field(default=False, metadata=ADDED)
    """For `huggingface`: a text stands between BERT's first two free ids, 1 and 2, and the context
    ends with its class token, whose id the text is read at (CLIPS)."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig(Ranged):
    """One complete model. Everything that a stranger needs to use the weights rightly is in
    here."""

    image: ImageTowerConfig
    text: TextTowerConfig
    embed_dim: Width = 512
    token_dim: Width | None = None
    """Width of the space where single patches and words are compared (FILIP, arXiv:2111.07783);
    None: there is none."""
    logit_scale: Finite = math.log(1 / 0.07)
    """Initial value, as a logarithm."""
    logit_bias: Finite | None = None
    """Initial value; None: the model has no bias. SigLIP starts at -10."""
    preprocess: PreprocessConfig = PreprocessConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    decoder: DecoderConfig | None = field(default=None, metadata=ADDED)
    """What writes captions (CoCa); None: the model has none."""
    projected: bool = field(default=True, metadata=ADDED)
    """Whether towers have their projections to the shared space, where they are made with one.
    False, of a tower alone: its vectors are those before it, `embed_dim` wide."""

    def __post_init__(self):
        super().__post_init__()
        if self.image.present and self.image.native != (self.preprocess.resize == "native"):
            kind = type(self.image).__name__
            wanted = "must be 'native'" if self.image.native else "can't be 'native'"
            raise ConfigError(
                f"preprocess.resize {wanted} for a {kind}, and is {self.preprocess.resize!r}"
            )
        if self.decoder is not None and self.text.sees_ahead:
            raise ConfigError(
                f"a bidirectional {type(self.text).__name__} shows the decoder the words that it "
                "is to write; make the text tower causal"
            )
        if self.image.native and self.token_dim is not None:
            raise ConfigError(
                f"token_dim: patches of a {type(self.image).__name__} can't be compared with words "
                "(FILIP), as pictures of their own aspect have different numbers of them"
            )

    @property
    def missing(self) -> Side | None:
        """Which tower isn't there, in a model that is one tower alone (`config.alone`)."""
        if not self.image.present:
            return "image"
        return None if self.text.present else "text"
