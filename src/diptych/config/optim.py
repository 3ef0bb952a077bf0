"""How weights move."""

from dataclasses import dataclass
from typing import Literal

from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with warm-up and decay to `final_lr`."""

    lr: float = 5e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    """Applies to matrices only: gains, biases, position tables, the scale and the bias have none."""
    warmup: int = 0
    """Steps from 0 to the peak."""
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    final_lr: float = 0.0
    part: tuple[float, float] = (0.0, 1.0)
    """The part of the schedule that this run goes through: a training in stages has (0, 0.75) in the first, (0.75, 1)
    in the second."""
    max_norm: float = 0.0
    """Gradients are scaled down to this total norm; 0: never."""

    def __post_init__(self):
        if self.lr <= 0:
            raise ConfigError(f"optim.lr {self.lr} must be above 0")
        if self.warmup < 0:
            raise ConfigError(f"optim.warmup {self.warmup} must not be negative")
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ConfigError(f"optim.part {self.part} must be two rising numbers from 0 to 1")
