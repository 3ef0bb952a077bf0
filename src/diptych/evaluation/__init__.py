"""How good the vectors are: zero-shot, retrieval, probes; confidence intervals and paired tests;
how it was measured."""

from diptych.encoder import class_vectors
from diptych.evaluation.clip_benchmark import from_clip_benchmark, to_clip_benchmark
from diptych.evaluation.evaluate import evaluate
from diptych.evaluation.examples import ExampleClassifier, learn
from diptych.evaluation.few_shot import FewShot, few_shot
from diptych.evaluation.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_means,
    mean_of_shares,
    smallest_difference,
    wilson,
)
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
from diptych.evaluation.mteb import read_mteb
from diptych.evaluation.paired import Paired, Verdict, holm, paired_test, verdicts
from diptych.evaluation.per_sample import PerSample
from diptych.evaluation.result import Result
from diptych.evaluation.results import ResultKey, Results
from diptych.evaluation.retrieval import RetrievalResult, retrieval
from diptych.evaluation.robustness import RobustnessRow, robustness
from diptych.evaluation.tasks import Task
from diptych.evaluation.tokens import TokenClasses, picture_tokens, token_classes
from diptych.evaluation.zero_shot import ZeroShotResult, zero_shot

__all__ = [
    "Calibration",
    "Choices",
    "ExampleClassifier",
    "FewShot",
    "Interval",
    "LinearProbe",
    "Paired",
    "PerSample",
    "Result",
    "ResultKey",
    "Results",
    "RetrievalResult",
    "RobustnessRow",
    "Task",
    "TokenClasses",
    "Verdict",
    "ZeroShotResult",
    "average_precision",
    "bootstrap_mean",
    "bootstrap_means",
    "calibration",
    "caption_choice",
    "choices",
    "class_vectors",
    "evaluate",
    "few_shot",
    "fit_probe",
    "from_clip_benchmark",
    "holm",
    "learn",
    "linear_probe",
    "mean_of_shares",
    "paired_test",
    "picture_tokens",
    "read_mteb",
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
