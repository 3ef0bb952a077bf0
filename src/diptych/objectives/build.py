"""From an objective's configuration to the objective."""

from diptych.config import (
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    ObjectiveConfig,
    SiglipObjectiveConfig,
    SlipObjectiveConfig,
)
from diptych.models import Clip
from diptych.objectives.base import Objective
from diptych.objectives.clip import ClipObjective
from diptych.objectives.declip import DeclipObjective
from diptych.objectives.defilip import DefilipObjective
from diptych.objectives.filip import FilipObjective
from diptych.objectives.siglip import SiglipObjective
from diptych.objectives.slip import SlipObjective


def build_objective(config: ObjectiveConfig, model: Clip) -> Objective:
    """The objective that `config` names, over `model`.

    Raises ConfigError where the model lacks what the objective needs.

    >>> from diptych import pretrained
    >>> from diptych.config import ClipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import build_objective
    >>> type(build_objective(ClipObjectiveConfig(), build(pretrained.get("tiny")))).__name__
    'ClipObjective'
    """
    match config:
        case ClipObjectiveConfig():
            return ClipObjective(config, model)
        case SiglipObjectiveConfig():
            return SiglipObjective(config, model)
        case SlipObjectiveConfig():
            return SlipObjective(config, model)
        case DefilipObjectiveConfig():
            return DefilipObjective(config, model)
        case DeclipObjectiveConfig():
            return DeclipObjective(config, model)
        case FilipObjectiveConfig():
            return FilipObjective(config, model)
