"""What DeCLIP's code does and we don't think sound, each as an option of a configuration of its
own, so that nobody who reads the objectives has to know of it; docs/declip.md says what differs.

Their defaults are those of the published code. Any of the options can also be turned off.
"""

import math
from dataclasses import dataclass

from diptych.components import Component
from diptych.config import (
    ClipObjectiveConfig,
    ContrastiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    SelfSupervisionConfig,
    SimClrConfig,
    SimSiamConfig,
    TokenPairsConfig,
)
from diptych.config.ranges import Above, Factor, Limit

LEAST, MOST = math.exp(3), math.exp(6)
"""Of every scale: its logarithm is clamped to [3, 6]. The first step begins at 1 / 0.07 all the
same."""


@dataclass(frozen=True, kw_only=True)
class PublishedClipObjectiveConfig(ClipObjectiveConfig):
    """CLIP's InfoNCE as DeCLIP's code has it."""

    implementation = "diptych.objectives.contrastive:ContrastiveObjective"
    contrastive = "diptych.families.declip.published:PublishedInfoNce"

    min_logit_scale: Above = LEAST
    max_logit_scale: Limit = MOST
    largest_scale_used: Above | None = 100.0
    """A larger scale is used as this in the loss, straight-through: its gradient is that of the
    scale as it is. None: no limit."""
    clamp_before_step: bool = True
    """Clamp the scale between loss and step, too."""


@dataclass(frozen=True, kw_only=True)
class PublishedTokenPairsConfig(TokenPairsConfig):
    """Patches and words as DeCLIP's code compares them."""

    implementation = "diptych.families.declip.published:PublishedTokenPairs"

    min_logit_scale: Above = LEAST
    max_logit_scale: Limit = MOST
    clamp_before_step: bool = True
    """Clamp the tokens' scale between loss and step, too."""


@dataclass(frozen=True, kw_only=True)
class PublishedSimSiamConfig(SimSiamConfig):
    """SimSiam as DeCLIP's code has it."""

    implementation = "diptych.families.declip.published:PublishedSimSiam"

    share_statistics: bool = False
    """The head's batch norms see all processes' samples. False: each process's see its own."""


@dataclass(frozen=True, kw_only=True)
class LocalNormSimClrConfig(SimClrConfig):
    """SimCLR with a head whose batch norms see each process's own samples. DeCLIP's code shares
    them; older runs could ask for it."""

    implementation = "diptych.families.declip.published:LocalNormSimClr"


@dataclass(frozen=True, kw_only=True)
class PublishedFilipObjectiveConfig(FilipObjectiveConfig):
    """FILIP as DeCLIP's code has it."""

    implementation = "diptych.families.declip.published:PublishedFilipObjective"

    pairs: ContrastiveConfig = PublishedClipObjectiveConfig(largest_scale_used=None)
    tokens: TokenPairsConfig = PublishedTokenPairsConfig()
    pairs_weight: Factor = 0.0
    contrast_masked: bool = True
    """Captions with masked words take the place of plain ones."""


@dataclass(frozen=True, kw_only=True)
class PublishedDeclipObjectiveConfig(DeclipObjectiveConfig):
    """DeCLIP as its code has it."""

    implementation = "diptych.families.declip.published:PublishedDeclipObjective"

    pairs: ContrastiveConfig = PublishedClipObjectiveConfig()
    views: SelfSupervisionConfig = PublishedSimSiamConfig()
    share_queue: bool = False
    """All processes remember all texts. False: each its own, and those that don't fit at the
    queue's end are dropped; a run that is resumed gives everybody the first process's."""
    contrast_masked: bool = True
    """The caption with masked words takes the plain one's place in all terms."""
    share_words: bool = False
    """Masked words count alike, whoever masked them. False: the mean over processes of each one's
    mean."""


@dataclass(frozen=True, kw_only=True)
class PublishedDefilipObjectiveConfig(PublishedDeclipObjectiveConfig, DefilipObjectiveConfig):
    """DeFILIP as its code has it."""

    implementation = "diptych.families.declip.published:PublishedDefilipObjective"

    tokens: TokenPairsConfig = PublishedTokenPairsConfig()


CONFIGS: tuple[type[Component], ...] = (
    PublishedClipObjectiveConfig,
    PublishedTokenPairsConfig,
    PublishedSimSiamConfig,
    LocalNormSimClrConfig,
    PublishedFilipObjectiveConfig,
    PublishedDeclipObjectiveConfig,
    PublishedDefilipObjectiveConfig,
)
"""They have short names, as all of ours."""
