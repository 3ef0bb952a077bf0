"""Another activation for a model's configuration."""

from dataclasses import fields, replace
from typing import TypeVar

from diptych.config import Activation, ClipConfig, TowerConfig

T = TypeVar("T", bound=TowerConfig)


def with_activation(config: ClipConfig, activation: Activation) -> ClipConfig:
    """The same model with QuickGELU or GELU in both towers, where they leave it to choose."""
    return replace(
        config,
        image=_activated(config.image, activation),
        text=_activated(config.text, activation),
    )


def _activated(tower: T, activation: Activation) -> T:
    if not any(field.name == "activation" for field in fields(tower)):
        return tower
    return replace(tower, activation=activation)
