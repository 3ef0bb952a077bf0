"""What can be asked for: frozen, keyword-only dataclasses that know their own limits. No torch in here."""

from diptych.config.data import AugmentConfig, DataConfig, StrongConfig, WordsConfig
from diptych.config.model import (
    Activation,
    ClipConfig,
    EvaConfig,
    HuggingFaceTextConfig,
    ImageTowerConfig,
    PreprocessConfig,
    ResNetConfig,
    TextConfig,
    TextTowerConfig,
    TimmConfig,
    TokenizerConfig,
    VitConfig,
)
from diptych.config.objective import ClipObjectiveConfig, ObjectiveConfig, SiglipObjectiveConfig
from diptych.config.optim import OptimConfig
from diptych.config.run import EvaluationConfig, ModelConfig, Run, SaveConfig, TowerOptions, TrackConfig
from diptych.config.unireplknet import UniRepLKNetConfig

__all__ = [
    "Activation",
    "AugmentConfig",
    "ClipConfig",
    "ClipObjectiveConfig",
    "DataConfig",
    "EvaConfig",
    "EvaluationConfig",
    "HuggingFaceTextConfig",
    "ImageTowerConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PreprocessConfig",
    "ResNetConfig",
    "Run",
    "SaveConfig",
    "SiglipObjectiveConfig",
    "StrongConfig",
    "TextConfig",
    "TextTowerConfig",
    "TimmConfig",
    "TokenizerConfig",
    "TowerOptions",
    "TrackConfig",
    "UniRepLKNetConfig",
    "VitConfig",
    "WordsConfig",
]
