"""Models as programs of other runtimes: written, run and compared; and such folders as models."""

from diptych.export.compare import Agreement, Comparison
from diptych.export.convert import export
from diptych.export.kinds import KINDS
from diptych.export.load import load_exported
from diptych.export.tower import ExportedTower

__all__ = ["Agreement", "Comparison", "ExportedTower", "KINDS", "export", "load_exported"]
