"""What is minimised. One dataclass an objective; the equation stands in `diptych.objectives`.

The composed objectives are made of parts: how pairs are contrasted, how two views of a picture
teach each other, how patches meet words. Their defaults are what we think sound; what reproduces
DeCLIP's code stands in `diptych.families.declip.published_config`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from diptych.components import Component
from diptych.config.model import SIGLIP_BIAS, ClipConfig, TokenizerConfig
from diptych.config.ranges import Above, Factor, Limit, Ranged, ShareBelowAll, Some, Width
from diptych.errors import ConfigError

CATALOGUE = "diptych.families:objective_configs"
CLIP_VOCABULARY = 49408
TOKEN_DIM = 256
"""FILIP's width of the space where patches and words are compared (arXiv:2111.07783)."""


def _check_scales(least: float, most: float) -> None:
    if least > most:
        raise ConfigError(f"min_logit_scale {least} must not be above max_logit_scale {most}")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Ranged, Component, abstract=True):
    """The base of every objective's configuration: its implementation is an `objectives.Objective`,
    made of the configuration and a model."""

    catalogue = CATALOGUE

    def adapt(self, model: ClipConfig) -> ClipConfig:
        """The configuration of a new model with what this objective needs of it, such as SigLIP's
        bias. Most need nothing."""
        return model


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(ObjectiveConfig, abstract=True):
    """The base of objectives that contrast whole pictures with whole captions and nothing else, and
    so serve as a part of others.

    A subclass names that part, too: `contrastive`, an `objectives.contrastive.Contrastive` that is
    made of the configuration and a model.
    """

    contrastive: ClassVar[str]
    """`package.module:Name` of the part."""

    def __init_subclass__(cls, abstract: bool = False, **options: Any):
        super().__init_subclass__(abstract=abstract, **options)
        if not abstract and "contrastive" not in vars(cls):
            raise ConfigError(
                f"{cls.__qualname__} names no contrastive part of its own; add a line such as "
                f'contrastive = "{cls.__module__}:NameOfTheClass"'
            )


@dataclass(frozen=True, kw_only=True)
class ClipObjectiveConfig(ContrastiveConfig):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020)."""

    implementation = "diptych.objectives.contrastive:ContrastiveObjective"
    contrastive = "diptych.objectives.contrastive:InfoNce"
    alias = "clip"

    label_smoothing: ShareBelowAll = 0.0
    min_logit_scale: Above = 1.0
    max_logit_scale: Limit = 100.0
    """The scale (not its logarithm) is clamped to [min, max] after every step."""
    tile: Some = 512
    """Rows of the logit matrix held at a time: memory is tile x global batch, the result doesn't
    depend on it."""

    def __post_init__(self):
        super().__post_init__()
        _check_scales(self.min_logit_scale, self.max_logit_scale)


@dataclass(frozen=True, kw_only=True)
class SiglipObjectiveConfig(ContrastiveConfig):
    """Pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343). The model needs a
    `logit_bias`."""

    implementation = "diptych.objectives.contrastive:ContrastiveObjective"
    contrastive = "diptych.objectives.contrastive:Sigmoid"
    alias = "siglip"

    tile: Some = 512
    """Rows of the logit matrix held at a time: memory is tile x global batch, the result doesn't
    depend on it."""

    def adapt(self, model: ClipConfig) -> ClipConfig:
        """With a bias, which starts at -10, and a scale that starts at 10, as the paper has them,
        where the model has none."""
        if model.logit_bias is not None:
            return model
        return replace(model, logit_scale=math.log(10), logit_bias=SIGLIP_BIAS)


@dataclass(frozen=True, kw_only=True)
class SelfSupervisionConfig(Ranged, Component, abstract=True):
    """The base of what makes two views of a picture teach each other: its implementation is an
    `objectives.heads.SelfSupervision`, made of the configuration and the vectors' width."""

    catalogue = CATALOGUE


@dataclass(frozen=True, kw_only=True)
class SimClrConfig(SelfSupervisionConfig):
    """Two views of a picture find each other in the batch (SimCLR, Chen et al. 2020,
    arXiv:2002.05709)."""

    implementation = "diptych.objectives.heads:SimClr"

    hidden: Width = 4096
    out: Width = 256
    """Widths of the head, as SLIP has it."""
    temperature: Above = 0.1


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig(SelfSupervisionConfig):
    """Each view of a picture predicts the other, without negatives (SimSiam, Chen & He 2020,
    arXiv:2011.10566)."""

    implementation = "diptych.objectives.heads:SimSiam"

    width: Width = 1024
    """Of the projector, as DeCLIP has it."""
    hidden: Width = 512
    """Of the predictor."""


@dataclass(frozen=True, kw_only=True)
class TokenPairsConfig(Ranged, Component):
    """Patches and words are compared one by one, token-wise late interaction (FILIP, Yao et al.
    2021, arXiv:2111.07783). The model needs a `token_dim`."""

    implementation = "diptych.objectives.token_pairs:TokenPairs"
    catalogue = CATALOGUE

    keep: Some | None = 16
    """Of each pair, so many patches and so many words stand for it among the others': those nearest
    to all of the other side. None: all."""
    mask_padding: bool = False
    """What stands behind the end of a text takes no part, as in FILIP's paper; in DeCLIP's code it
    does."""
    min_logit_scale: Above = 1.0
    max_logit_scale: Limit = 100.0
    """The clamp of the tokens' own scale."""
    tile: Some = 1 << 19
    """Dot products held at a time; the result doesn't depend on it."""

    def __post_init__(self):
        super().__post_init__()
        _check_scales(self.min_logit_scale, self.max_logit_scale)


@dataclass(frozen=True, kw_only=True)
class SlipObjectiveConfig(ObjectiveConfig):
    """CLIP, and two strong views of each picture that teach each other (SLIP, Mu et al. 2021,
    arXiv:2112.12750)."""

    implementation = "diptych.objectives.slip:SlipObjective"
    alias = "slip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    views: SelfSupervisionConfig = SimClrConfig()
    views_weight: Factor = 1.0

    def adapt(self, model: ClipConfig) -> ClipConfig:
        return self.pairs.adapt(model)


@dataclass(frozen=True, kw_only=True)
class DeclipObjectiveConfig(ObjectiveConfig):
    """Supervision from wherever it is to be had (DeCLIP, Li et al. 2021, arXiv:2110.05208): between
    modalities for two views of each, between two views of a picture, from masked words (masked
    language modelling), and from the nearest text of the past."""

    implementation = "diptych.objectives.declip:DeclipObjective"
    alias = "declip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    views: SelfSupervisionConfig = SimSiamConfig()
    pairs_weight: Factor = 0.4
    """Of the mean over two pictures x two captions."""
    views_weight: Factor = 0.2
    words_weight: Factor = 0.2
    """Of masked language modelling."""
    neighbours_weight: Factor = 0.2
    queue: Some = 65536
    """Texts of the past that are remembered."""

    def adapt(self, model: ClipConfig) -> ClipConfig:
        return with_mask_token(self.pairs.adapt(model))


@dataclass(frozen=True, kw_only=True)
class FilipObjectiveConfig(ObjectiveConfig):
    """Patches and words compared one by one (FILIP, Yao et al. 2021, arXiv:2111.07783)."""

    implementation = "diptych.objectives.filip:FilipObjective"
    alias = "filip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    tokens: TokenPairsConfig = TokenPairsConfig()
    pairs_weight: Factor = 1.0
    """Of the contrast of whole vectors, by which the model is then also searched and asked. In
    DeCLIP's code: 0, and the model is asked token by token."""
    tokens_weight: Factor = 1.0

    def adapt(self, model: ClipConfig) -> ClipConfig:
        return _with_tokens(self.pairs.adapt(model))


@dataclass(frozen=True, kw_only=True)
class DefilipObjectiveConfig(DeclipObjectiveConfig):
    """DeCLIP and FILIP together (Cui et al. 2022, arXiv:2203.05796)."""

    implementation = "diptych.objectives.defilip:DefilipObjective"
    alias = "defilip"

    tokens: TokenPairsConfig = TokenPairsConfig()
    tokens_weight: Factor = 0.2

    def adapt(self, model: ClipConfig) -> ClipConfig:
        return _with_tokens(super().adapt(model))


@dataclass(frozen=True, kw_only=True)
class CocaObjectiveConfig(ObjectiveConfig):
    """The contrast of pairs, and captions that are written word by word (CoCa, Yu et al. 2022,
    arXiv:2205.01917). The model needs a decoder, as CoCa's have one."""

    implementation = "diptych.objectives.coca:CocaObjective"
    alias = "coca"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    pairs_weight: Factor = 1.0
    captions_weight: Above = 2.0
    """Of the mean cross entropy of a caption's next token, over all tokens of the batch. To train
    the contrast alone, choose the objective `clip`."""
    tile: Some = 1024
    """Tokens whose logits, one for each id of the vocabulary, are held at a time; the result
    doesn't depend on it."""

    def adapt(self, model: ClipConfig) -> ClipConfig:
        return self.pairs.adapt(model)


def with_mask_token(model: ClipConfig) -> ClipConfig:
    """With DeCLIP's tokenizer in place of CLIP's, which has no token for masked words."""
    if model.tokenizer.kind != "clip" or model.text.vocabulary != CLIP_VOCABULARY:
        return model
    text = model.text.with_vocabulary(CLIP_VOCABULARY + 1)
    return replace(model, text=text, tokenizer=TokenizerConfig(kind="declip"))


def _with_tokens(model: ClipConfig) -> ClipConfig:
    """With a space for patches and words, where the model has none."""
    return model if model.token_dim is not None else replace(model, token_dim=TOKEN_DIM)


OBJECTIVES: tuple[type[Component], ...] = (
    ClipObjectiveConfig,
    SiglipObjectiveConfig,
    SlipObjectiveConfig,
    DeclipObjectiveConfig,
    FilipObjectiveConfig,
    DefilipObjectiveConfig,
    CocaObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    TokenPairsConfig,
)
"""The objectives of this room and their parts; families have more."""
