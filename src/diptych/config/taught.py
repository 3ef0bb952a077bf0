"""Objectives in which models that are trained already, the teachers, say what is to be learned."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from diptych.components import Component
from diptych.config.model import ClipConfig
from diptych.config.objective import ClipObjectiveConfig, ContrastiveConfig, ObjectiveConfig
from diptych.config.ranges import Above, Factor, Filled, Share, ShareOfSome, Some
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TaughtConfig(ObjectiveConfig, abstract=True):
    """The base of objectives with teachers: the implementation is an `objectives.Objective`, made
    of the configuration, a model, and the teachers' models, which it keeps as
    `objectives.Teacher`s."""

    inherits_text: ClassVar[bool] = False
    """Whether the model that is trained has the first teacher's text tower, scale and bias."""

    teachers: Annotated[tuple[str, ...], Filled("--objective.teachers")] = ()
    """Models whose answers are the targets: whatever `diptych.load` reads. They stay as they
    are."""
    fingerprints: tuple[str, ...] = ()
    """SHA-256 of each teacher's configuration and weights. Empty: whatever they are. A run's
    `run.json` says what they were, and one that goes on must have the same."""

    def __post_init__(self):
        super().__post_init__()
        if self.fingerprints and len(self.fingerprints) != len(self.teachers):
            raise ConfigError(
                f"--objective.fingerprints has {len(self.fingerprints)} values for "
                f"{len(self.teachers)} in --objective.teachers"
            )


@dataclass(frozen=True, kw_only=True)
class DistillObjectiveConfig(TaughtConfig):
    """Contrastive distillation: which caption of the batch each picture is near to, and back, is
    learned from one or several teachers (MobileCLIP, Vasu et al. 2023, arXiv:2311.17049, §3.3;
    open_clip's `DistillClipLoss`). Teachers may have other widths, picture sizes and tokenizers.

    Their vectors are computed in training, or read where `diptych reinforce` has stored them.
    """

    implementation = "diptych.objectives.distill:DistillObjective"
    alias = "distill"

    pairs: ContrastiveConfig = ClipObjectiveConfig()
    weight: Share = 1.0
    """MobileCLIP's lambda: loss = (1 - weight) * pairs + weight * the mean over teachers."""
    pairs_weight: Factor | None = None
    """Of the contrast of pairs. None: 1 - `weight`. In open_clip both weigh 1."""
    form: Literal["kl", "cross_entropy"] = "kl"
    """`kl`: the divergence of the model's softmax from the teacher's, as MobileCLIP has it: 0 where
    they are alike. `cross_entropy`: with the teacher's as targets, as open_clip has it: the same
    gradient, and the teacher's entropy on top."""
    temperatures: tuple[Above, ...] = ()
    """Of each teacher's softmax, such as 0.01. Empty: the teacher's own."""
    reinforced: str = ""
    """The folder of vectors that `diptych reinforce` wrote: teachers are not loaded then, and
    `teachers` chooses among those of the folder (empty: all)."""
    tile: Some = 512
    """Rows of the matrices of similarities held at a time; the result doesn't depend on it."""

    def __post_init__(self):
        super().__post_init__()
        if self.teachers:
            self.check_temperatures()

    def check_temperatures(self) -> None:
        """Raises ConfigError unless there is none, or one for each of the teachers."""
        if self.temperatures and len(self.temperatures) != len(self.teachers):
            raise ConfigError(
                f"--objective.temperatures has {len(self.temperatures)} values for "
                f"{len(self.teachers)} teachers"
            )

    def adapt(self, model: ClipConfig) -> ClipConfig:
        return self.pairs.adapt(model)


@dataclass(frozen=True, kw_only=True)
class MimObjectiveConfig(TaughtConfig):
    """Masked image modelling: of patches that are hidden, the image tower tells what a CLIP teacher
    sees there (EVA, Fang et al. 2022, arXiv:2211.07636). `teachers` is one; captions aren't
    needed."""

    implementation = "diptych.objectives.mim:MimObjective"
    alias = "mim"
    inherits_text = True

    hide: ShareOfSome = 0.41
    """Share of the patches that are hidden, by blocks (BEiT, arXiv:2106.08254): 105 of 256, which
    EVA's papers call 40 %."""
    exact: bool = True
    """Hide exactly so many of each picture. Off: as published, as many of them as blocks happen to
    find (94 to 105)."""


TAUGHT: tuple[type[Component], ...] = (DistillObjectiveConfig, MimObjectiveConfig)
"""The objectives of this room that have teachers."""
