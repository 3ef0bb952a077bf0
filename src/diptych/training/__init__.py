"""From a Run to a trained model: the loop, its callbacks, its checkpoints, its loggers."""

from diptych.training.fit import fit, load_run
from diptych.training.metrics import read_metrics

__all__ = ["fit", "load_run", "read_metrics"]
