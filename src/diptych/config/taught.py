"""Objectives in which models that are trained already, the teachers, say what is to be learned."""

from dataclasses import dataclass
from typing import ClassVar

from diptych.components import Component
from diptych.config.objective import ObjectiveConfig
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TaughtConfig(ObjectiveConfig, abstract=True):
    """The base of objectives with teachers: the implementation is an `objectives.Objective`, made
    of the configuration, a model, and the teachers' models, which it keeps as
    `objectives.Teacher`s."""

    inherits_text: ClassVar[bool] = False
    """Whether the model that is trained has the first teacher's text tower, scale and bias."""

    teachers: tuple[str, ...] = ()
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


TAUGHT: tuple[type[Component], ...] = ()
"""The objectives of this room that have teachers."""
