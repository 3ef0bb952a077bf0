"""Complete experiments: from data to a page that shows what came of it.

    from diptych.experiments import ObjectivesConfig, compare_objectives, demo

    result = demo("demo")                        # minutes on a CPU
    result.scores.accuracy["unseen"]["digit"]
    compare_objectives(ObjectivesConfig(budget=60, out="benchmark")).scores

`diptych demo`, `diptych benchmark objectives` and `diptych benchmark runs` are these. Names are
resolved on first use, so that the help of those verbs doesn't import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.experiments.comparison.compare import Comparison, compare_runs
    from diptych.experiments.comparison.config import CompareConfig
    from diptych.experiments.digits.demo import DemoResult, demo
    from diptych.experiments.objectives.compare import compare_objectives
    from diptych.experiments.objectives.config import ObjectivesConfig

__all__ = [
    "CompareConfig",
    "Comparison",
    "DemoResult",
    "ObjectivesConfig",
    "compare_objectives",
    "compare_runs",
    "demo",
]

_HOME = {
    "CompareConfig": "comparison.config",
    "Comparison": "comparison.compare",
    "DemoResult": "digits.demo",
    "ObjectivesConfig": "objectives.config",
    "compare_objectives": "objectives.compare",
    "compare_runs": "comparison.compare",
    "demo": "digits.demo",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'diptych.experiments' has no attribute {name!r}")
    return getattr(importlib.import_module(f"diptych.experiments.{_HOME[name]}"), name)
