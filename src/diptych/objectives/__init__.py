"""What is minimised: the contrastive equations, the objectives that own a model, and exact gradient
accumulation."""

from diptych.objectives.accumulate import accumulate
from diptych.objectives.base import Cotangents, Features, Losses, Objective
from diptych.objectives.build import build_objective
from diptych.objectives.coca import CocaObjective
from diptych.objectives.contrastive import ContrastiveObjective
from diptych.objectives.declip import DeclipObjective
from diptych.objectives.defilip import DefilipObjective
from diptych.objectives.distill import DistillObjective
from diptych.objectives.filip import FilipObjective
from diptych.objectives.mim import MimObjective
from diptych.objectives.slip import SlipObjective
from diptych.objectives.teacher import Teacher

__all__ = [
    "CocaObjective",
    "ContrastiveObjective",
    "Cotangents",
    "DeclipObjective",
    "DefilipObjective",
    "DistillObjective",
    "Features",
    "FilipObjective",
    "Losses",
    "MimObjective",
    "Objective",
    "SlipObjective",
    "Teacher",
    "accumulate",
    "build_objective",
]
