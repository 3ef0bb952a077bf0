"""Complete experiments: from data to a page that shows what came of it.

    from diptych.experiments import ObjectivesConfig, compare_objectives, demo

    result = demo("demo")                        # minutes on a CPU
    result.scores.accuracy["unseen"]["digit"]
    compare_objectives(ObjectivesConfig(budget=60, out="benchmark")).scores

`diptych demo` and `diptych benchmark objectives` are these. Names are resolved on first use, so
that the help of those verbs doesn't import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.experiments.digits.demo import DemoResult, demo
    from diptych.experiments.objectives.compare import Comparison, compare_objectives
    from diptych.experiments.objectives.config import ObjectivesConfig

__all__ = ["Comparison", "DemoResult", "ObjectivesConfig", "compare_objectives", "demo"]

_HOME = {
    "Comparison": "objectives.compare",
    "DemoResult": "digits.demo",
    "ObjectivesConfig": "objectives.config",
    "compare_objectives": "objectives.compare",
    "demo": "digits.demo",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'diptych.experiments' has no attribute {name!r}")
    return getattr(importlib.import_module(f"diptych.experiments.{_HOME[name]}"), name)
