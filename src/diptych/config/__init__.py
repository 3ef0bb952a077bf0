"""What can be asked for: frozen, keyword-only dataclasses that know their own limits. No torch in
here."""

from diptych.config.data import (
    AugmentConfig,
    DataConfig,
    SourceConfig,
    StrongConfig,
    WordsConfig,
)
from diptych.config.model import (
    Activation,
    ClipConfig,
    DecoderConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TokenizerConfig,
    TowerConfig,
)
from diptych.config.objective import (
    ClipObjectiveConfig,
    CocaObjectiveConfig,
    ContrastiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    ObjectiveConfig,
    SelfSupervisionConfig,
    SiglipObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
    TokenPairsConfig,
)
from diptych.config.optim import OptimConfig
from diptych.config.run import (
    EvaluationConfig,
    ModelConfig,
    Run,
    SaveConfig,
    TowerOptions,
    TrackConfig,
)
from diptych.config.shard import ShardConfig
from diptych.config.taught import DistillObjectiveConfig, MimObjectiveConfig, TaughtConfig

__all__ = [
    "Activation",
    "AugmentConfig",
    "ClipConfig",
    "ClipObjectiveConfig",
    "CocaObjectiveConfig",
    "ContrastiveConfig",
    "DataConfig",
    "DeclipObjectiveConfig",
    "DecoderConfig",
    "DefilipObjectiveConfig",
    "DistillObjectiveConfig",
    "EvaluationConfig",
    "FilipObjectiveConfig",
    "ImageTowerConfig",
    "MimObjectiveConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PreprocessConfig",
    "Run",
    "SaveConfig",
    "SelfSupervisionConfig",
    "ShardConfig",
    "SiglipObjectiveConfig",
    "SimClrConfig",
    "SimSiamConfig",
    "SlipObjectiveConfig",
    "SourceConfig",
    "StrongConfig",
    "TaughtConfig",
    "TextTowerConfig",
    "TokenPairsConfig",
    "TokenizerConfig",
    "TowerConfig",
    "TowerOptions",
    "TrackConfig",
    "WordsConfig",
]
