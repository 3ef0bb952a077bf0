"""What is minimised: the contrastive equations, the objectives that own a model, and exact gradient accumulation."""

from diptych.objectives.accumulate import accumulate
from diptych.objectives.base import Cotangents, Features, Losses, Objective
from diptych.objectives.build import build_objective
from diptych.objectives.clip import ClipObjective
from diptych.objectives.siglip import SiglipObjective

__all__ = [
    "ClipObjective",
    "Cotangents",
    "Features",
    "Losses",
    "Objective",
    "SiglipObjective",
    "accumulate",
    "build_objective",
]
