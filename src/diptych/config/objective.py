"""What is minimised. One dataclass an objective; the equation stands in `diptych.objectives`.

The composed objectives are made of parts: how pairs are contrasted, how two views of a picture
teach each other, how patches meet words. Their defaults are what we think sound; fields that say
"as published" reproduce DeCLIP's code.
"""

import math
from dataclasses import dataclass, replace

from diptych.components import Component
from diptych.config.model import ClipConfig
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Component, abstract=True):
    """The base of every objective's configuration: its implementation is an `objectives.Objective`,
    made of the configuration and a model."""

    catalogue = "diptych.config.objective:objective_configs"

    def adapt(self, model: ClipConfig) -> ClipConfig:
        """The configuration of a new model with what this objective needs of it, such as SigLIP's
        bias. Most need nothing."""
        return model


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(ObjectiveConfig, abstract=True):
    """The base of objectives that contrast whole pictures with whole captions and nothing else, and
    so serve as a part of others."""


@dataclass(frozen=True, kw_only=True)
class ClipObjectiveConfig(ContrastiveConfig):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020)."""

    implementation = "diptych.objectives.clip:ClipObjective"
    alias = "clip"

    label_smoothing: float = 0.0
    min_logit_scale: float = 1.0
    max_logit_scale: float = 100.0
    """The scale (not its logarithm) is clamped to [min, max] after every step. DeCLIP as published:
    e^3 to e^6."""
    largest_scale_used: float | None = None
    """A larger scale is used as this, with the gradient as if it weren't. DeCLIP as published: 100.
    None: as it is."""
    clamp_before_step: bool = False
    """Clamp the scale between loss and step, too: as published by DeCLIP."""
    tile: int = 512
    """Rows of the logit matrix held at a time: memory is tile x global batch, the result doesn't
    depend on it."""

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing {self.label_smoothing} must lie in [0, 1)")
        if not 0 < self.min_logit_scale <= self.max_logit_scale:
            raise ConfigError(
                f"min_logit_scale {self.min_logit_scale} must lie in (0, {self.max_logit_scale}]"
            )
        if self.tile < 1:
            raise ConfigError(f"tile {self.tile} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SiglipObjectiveConfig(ContrastiveConfig):
    """Pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343). The model needs a
    `logit_bias`."""

    implementation = "diptych.objectives.siglip:SiglipObjective"
    alias = "siglip"

    tile: int = 512
    """Rows of the logit matrix held at a time: memory is tile x global batch, the result doesn't
    depend on it."""

    def __post_init__(self):
        if self.tile < 1:
            raise ConfigError(f"tile {self.tile} must be at least 1")

    def adapt(self, model: ClipConfig) -> ClipConfig:
        """With a bias, which starts at -10, and a scale that starts at 10, as the paper has them,
        where the model has none."""
        if model.logit_bias is not None:
            return model
        return replace(model, logit_scale=math.log(10), logit_bias=-10.0)


@dataclass(frozen=True, kw_only=True)
class SelfSupervisionConfig(Component, abstract=True):
    """The base of what makes two views of a picture teach each other: its implementation is a
    module that is made of the configuration and the vectors' width, and gives the loss of two
    views."""

    catalogue = "diptych.config.objective:self_supervision_configs"


@dataclass(frozen=True, kw_only=True)
class SimClrConfig(SelfSupervisionConfig):
    """Two views of a picture find each other in the batch (SimCLR, Chen et al. 2020,
    arXiv:2002.05709)."""

    implementation = "diptych.objectives.heads:SimClr"

    hidden: int = 4096
    out: int = 256
    """Widths of the head, as SLIP has it."""
    temperature: float = 0.1
    share_statistics: bool = True
    """The head's batch norms see all processes' samples. False: each process's see its own."""


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig(SelfSupervisionConfig):
    """Each view of a picture foretells the other, without negatives (SimSiam, Chen & He 2020,
    arXiv:2011.10566)."""

    implementation = "diptych.objectives.heads:SimSiam"

    width: int = 1024
    """Of the projector, as DeCLIP has it."""
    hidden: int = 512
    """Of the predictor."""
    share_statistics: bool = True
    """The head's batch norms see all processes' samples. False, as published: each process's see
    its own."""


@dataclass(frozen=True, kw_only=True)
class TokenPairsConfig:
    """Patches and words are compared one by one (FILIP, Yao et al. 2021, arXiv:2111.07783). The
    model needs a `token_dim`."""

    keep: int | None = 16
    """Of each pair, so many patches and so many words stand for it among the others': those nearest
    to all of the other side. None: all."""
    mask_padding: bool = False
    """What stands behind the end of a text takes no part. As in FILIP's paper; DeCLIP as published:
    it does."""
    min_logit_scale: float = 1.0
    max_logit_scale: float = 100.0
    """The clamp of the tokens' own scale. DeCLIP as published: e^3 to e^6."""
    clamp_before_step: bool = False
    """Clamp it between loss and step, too: as published by DeCLIP."""
    tile: int = 1 << 19
    """Dot products held at a time; the result doesn't depend on it."""

    def __post_init__(self):
        if self.keep is not None and self.keep < 1:
            raise ConfigError(f"keep {self.keep} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SlipObjectiveConfig(ObjectiveConfig):
    """CLIP, and two strong views of each picture that teach each other (SLIP, Mu et al. 2021,
    arXiv:2112.12750)."""

    implementation = "diptych.objectives.slip:SlipObjective"
    alias = "slip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    views: SelfSupervisionConfig = SimClrConfig()
    views_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DeclipObjectiveConfig(ObjectiveConfig):
    """Supervision from wherever it is to be had (DeCLIP, Li et al. 2021, arXiv:2110.05208): between
    modalities for two views of each, between two views of a picture, from hidden words, and from
    the nearest text of the past."""

    implementation = "diptych.objectives.declip:DeclipObjective"
    alias = "declip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    views: SelfSupervisionConfig = SimSiamConfig()
    pairs_weight: float = 0.4
    """Of the mean over two pictures x two captions."""
    views_weight: float = 0.2
    words_weight: float = 0.2
    neighbours_weight: float = 0.2
    queue: int = 65536
    """Texts of the past that are remembered."""
    share_queue: bool = True
    """All processes remember all texts. False, as published: each its own, and those that don't fit
    at the queue's end are dropped; a run that is resumed gives everybody the first process's."""
    contrast_masked: bool = False
    """The caption with hidden words takes the plain one's place in all terms: as published."""
    share_words: bool = True
    """Hidden words count alike, whoever hid them. False, as published: the mean over processes of
    each one's mean."""


@dataclass(frozen=True, kw_only=True)
class FilipObjectiveConfig(ObjectiveConfig):
    """Patches and words compared one by one (FILIP, Yao et al. 2021, arXiv:2111.07783)."""

    implementation = "diptych.objectives.filip:FilipObjective"
    alias = "filip"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    tokens: TokenPairsConfig = TokenPairsConfig()
    pairs_weight: float = 1.0
    """Of the contrast of whole vectors, by which the model is then also searched and asked. As
    published: 0, and the model is asked token by token."""
    tokens_weight: float = 1.0
    contrast_masked: bool = False
    """Captions with hidden words take the place of plain ones: as published."""


@dataclass(frozen=True, kw_only=True)
class DefilipObjectiveConfig(DeclipObjectiveConfig):
    """DeCLIP and FILIP together (Cui et al. 2022, arXiv:2203.05796)."""

    implementation = "diptych.objectives.defilip:DefilipObjective"
    alias = "defilip"

    tokens: TokenPairsConfig = TokenPairsConfig()
    tokens_weight: float = 0.2


def objective_configs() -> tuple[type[ObjectiveConfig], ...]:
    """Ours, which have short names."""
    return (
        ClipObjectiveConfig,
        SiglipObjectiveConfig,
        SlipObjectiveConfig,
        DeclipObjectiveConfig,
        FilipObjectiveConfig,
        DefilipObjectiveConfig,
    )


def self_supervision_configs() -> tuple[type[SelfSupervisionConfig], ...]:
    """Ours, which have short names."""
    return (SimClrConfig, SimSiamConfig)
