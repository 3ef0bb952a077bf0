"""Evaluation sets: which there are, how each is scored, and the reading of them from disk."""

from diptych.evaluation.sets.entry import EvaluationSet, Metric, Task
from diptych.evaluation.sets.lookup import GROUPS, get, names, select

__all__ = ["EvaluationSet", "GROUPS", "Metric", "Task", "get", "names", "select"]
