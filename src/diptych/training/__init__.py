"""From a Run to a trained model: the loop, its callbacks, its checkpoints, its loggers."""

from diptych.training.fit import fit
from diptych.training.metrics import read_metrics
from diptych.training.saved import load_run

__all__ = ["fit", "load_run", "read_metrics"]
