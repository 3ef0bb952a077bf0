"""What is minimised. One dataclass an objective; the equation stands in `diptych.objectives`."""

from dataclasses import dataclass

from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClipObjectiveConfig:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020)."""

    label_smoothing: float = 0.0
    max_logit_scale: float = 100.0
    """The scale (not its logarithm) is clamped to [1, this] after every step."""
    tile: int = 512
    """Rows of the logit matrix held at a time: memory is tile x global batch, the result doesn't depend on it."""

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing {self.label_smoothing} must lie in [0, 1)")
        if self.tile < 1:
            raise ConfigError(f"tile {self.tile} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SiglipObjectiveConfig:
    """Pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343). The model needs a `logit_bias`."""

    tile: int = 512
    """Rows of the logit matrix held at a time: memory is tile x global batch, the result doesn't depend on it."""

    def __post_init__(self):
        if self.tile < 1:
            raise ConfigError(f"tile {self.tile} must be at least 1")


ObjectiveConfig = ClipObjectiveConfig | SiglipObjectiveConfig
