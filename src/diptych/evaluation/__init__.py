"""How good the vectors are: zero-shot classification, retrieval, and a result that says how it was measured."""

from diptych.encoder import class_vectors
from diptych.evaluation.clip_benchmark import from_clip_benchmark, to_clip_benchmark
from diptych.evaluation.evaluate import evaluate
from diptych.evaluation.few_shot import FewShot, few_shot
from diptych.evaluation.linear import LinearProbe, fit_probe, linear_probe
from diptych.evaluation.metrics import (
    Calibration,
    Choices,
    average_precision,
    calibration,
    caption_choice,
    choices,
    mean_of_top1_and_top5,
    mean_per_class,
    roc_auc,
)
from diptych.evaluation.prompts import TEMPLATES, templates
from diptych.evaluation.result import Result
from diptych.evaluation.retrieval import RetrievalResult, retrieval
from diptych.evaluation.tokens import TokenClasses, evaluate_tokens, picture_tokens, token_classes
from diptych.evaluation.zero_shot import ZeroShotResult, zero_shot

__all__ = [
    "Calibration",
    "Choices",
    "FewShot",
    "LinearProbe",
    "Result",
    "RetrievalResult",
    "TEMPLATES",
    "TokenClasses",
    "ZeroShotResult",
    "average_precision",
    "calibration",
    "caption_choice",
    "choices",
    "class_vectors",
    "evaluate",
    "evaluate_tokens",
    "few_shot",
    "fit_probe",
    "from_clip_benchmark",
    "linear_probe",
    "mean_of_top1_and_top5",
    "mean_per_class",
    "picture_tokens",
    "retrieval",
    "roc_auc",
    "templates",
    "to_clip_benchmark",
    "token_classes",
    "zero_shot",
]
