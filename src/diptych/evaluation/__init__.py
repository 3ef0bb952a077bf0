"""How good the vectors are: zero-shot, retrieval, probes; how far to believe it; how it was
measured."""

from diptych.encoder import class_vectors
from diptych.evaluation.belief import (
    Interval,
    bootstrap_mean,
    bootstrap_mean_per_class,
    bootstrap_means,
    smallest_difference,
    wilson,
)
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
    roc_auc,
)
from diptych.evaluation.outcomes import Outcomes
from diptych.evaluation.paired import Paired, Verdict, compare_outcomes, verdicts
from diptych.evaluation.result import Result, outcomes_beside
from diptych.evaluation.retrieval import RetrievalResult, retrieval
from diptych.evaluation.robustness import RobustnessRow, robustness
from diptych.evaluation.tokens import TokenClasses, evaluate_tokens, picture_tokens, token_classes
from diptych.evaluation.zero_shot import ZeroShotResult, zero_shot

__all__ = [
    "Calibration",
    "Choices",
    "FewShot",
    "Interval",
    "LinearProbe",
    "Outcomes",
    "Paired",
    "Result",
    "RetrievalResult",
    "RobustnessRow",
    "TokenClasses",
    "Verdict",
    "ZeroShotResult",
    "average_precision",
    "bootstrap_mean",
    "bootstrap_mean_per_class",
    "bootstrap_means",
    "calibration",
    "caption_choice",
    "choices",
    "class_vectors",
    "compare_outcomes",
    "evaluate",
    "evaluate_tokens",
    "few_shot",
    "fit_probe",
    "from_clip_benchmark",
    "linear_probe",
    "outcomes_beside",
    "picture_tokens",
    "retrieval",
    "robustness",
    "roc_auc",
    "smallest_difference",
    "to_clip_benchmark",
    "token_classes",
    "verdicts",
    "wilson",
    "zero_shot",
]
