"""Evaluation sets: which there are, how each is scored, and the reading of them from disk."""

from diptych.evaluation.sets.entry import EvaluationSet, Metric, Task
from diptych.evaluation.sets.lookup import GROUPS, get, names, select
from diptych.evaluation.sets.open import OpenSet, open_set
from diptych.evaluation.sets.profiles import Change, Profile, Resize, profile, profiles
from diptych.evaluation.sets.published import Published, published

__all__ = [
    "Change",
    "EvaluationSet",
    "GROUPS",
    "Metric",
    "OpenSet",
    "Profile",
    "Published",
    "Resize",
    "Task",
    "get",
    "names",
    "open_set",
    "profile",
    "profiles",
    "published",
    "select",
]
