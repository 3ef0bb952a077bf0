"""How good the vectors are: zero-shot classification, retrieval, and a result that says how it was measured."""

from diptych.encoder import class_vectors
from diptych.evaluation.clip_benchmark import from_clip_benchmark, to_clip_benchmark
from diptych.evaluation.evaluate import evaluate
from diptych.evaluation.linear import LinearProbe, fit_probe, linear_probe
from diptych.evaluation.prompts import TEMPLATES, templates
from diptych.evaluation.result import Result
from diptych.evaluation.retrieval import RetrievalResult, retrieval
from diptych.evaluation.tokens import TokenClasses, evaluate_tokens, picture_tokens, token_classes
from diptych.evaluation.zero_shot import ZeroShotResult, zero_shot

__all__ = [
    "LinearProbe",
    "Result",
    "RetrievalResult",
    "TEMPLATES",
    "TokenClasses",
    "ZeroShotResult",
    "class_vectors",
    "evaluate",
    "evaluate_tokens",
    "fit_probe",
    "from_clip_benchmark",
    "linear_probe",
    "picture_tokens",
    "retrieval",
    "templates",
    "to_clip_benchmark",
    "token_classes",
    "zero_shot",
]
