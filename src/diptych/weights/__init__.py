"""Weights on disk: readers of every kind of file, mapping of names, our native format, the hub."""

from diptych.weights.layout import Export, Layout, WeightSource
from diptych.weights.mapping import Rule, Table
from diptych.weights.native import Meta, save_model
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights, tower_weights

__all__ = [
    "Export",
    "Layout",
    "Meta",
    "Rule",
    "State",
    "Table",
    "TowerWeights",
    "WeightSource",
    "save_model",
    "tower_weights",
]
