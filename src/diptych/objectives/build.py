"""From an objective's configuration to the objective."""

from collections.abc import Sequence

from diptych.components import implementation
from diptych.config import ObjectiveConfig, TaughtConfig
from diptych.errors import ConfigError
from diptych.models import Clip
from diptych.objectives.base import Objective


def build_objective(
    config: ObjectiveConfig, model: Clip, teachers: Sequence[Clip] = ()
) -> Objective:
    """The objective that `config` names, over `model`; with the models of its `teachers`, if it has
    any.

    Raises ConfigError where the model lacks what the objective needs, or takes no such pictures,
    and where the configuration names something that isn't an objective.

    >>> from diptych import pretrained
    >>> from diptych.config import SlipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import build_objective
    >>> type(build_objective(SlipObjectiveConfig(), build(pretrained.get("tiny")))).__name__
    'SlipObjective'
    """
    taught = isinstance(config, TaughtConfig)
    objective = implementation(config)(config, model, *([teachers] if taught else []))
    if not isinstance(objective, Objective):
        raise ConfigError(
            f"{config.implementation}, which {type(config).__name__} names, makes no Objective; "
            "it must be a class that inherits from diptych.objectives.Objective"
        )
    if model.config.image.native and "strong" in objective.views.image:
        raise ConfigError(
            f"{type(config).__name__} wants strong crops, which are squares, and this "
            "model takes pictures of their own aspect: train a tower for squares, or with another "
            "objective, such as clip or siglip"
        )
    return objective
