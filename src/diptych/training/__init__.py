"""From a Run to a trained model: the loop, its state on disk, its metrics."""

from diptych.training.fit import fit, load_run
from diptych.training.metrics import read_metrics

__all__ = ["fit", "load_run", "read_metrics"]
