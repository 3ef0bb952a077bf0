"""How good the vectors are: zero-shot classification, retrieval, and a result that says how it was measured."""

from diptych.encoder import class_vectors
from diptych.evaluation.evaluate import evaluate
from diptych.evaluation.probe import linear_probe
from diptych.evaluation.prompts import TEMPLATES, templates
from diptych.evaluation.result import Result
from diptych.evaluation.retrieval import RetrievalResult, retrieval
from diptych.evaluation.zero_shot import ZeroShotResult, zero_shot

__all__ = [
    "Result",
    "RetrievalResult",
    "TEMPLATES",
    "ZeroShotResult",
    "class_vectors",
    "evaluate",
    "linear_probe",
    "retrieval",
    "templates",
    "zero_shot",
]
