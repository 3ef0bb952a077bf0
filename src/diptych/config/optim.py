"""How weights move."""

from dataclasses import dataclass
from typing import Literal

from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """An optimiser with warm-up and decay to `final_lr`."""

    name: Literal["adamw", "sgd"] = "adamw"
    """`adamw`: Loshchilov & Hutter 2019, arXiv:1711.05101. `sgd`: with Nesterov's momentum, and
    decay as part of the gradient."""
    lr: float = 5e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of `adamw`; so is `eps`."""
    eps: float = 1e-6
    momentum: float = 0.9
    """Of `sgd`."""
    weight_decay: float = 0.2
    decayed: Literal["matrices", "tables"] = "matrices"
    """What decays. `matrices`: the weights of linear, convolution and embedding layers. `tables`:
    position tables, class tokens and the bias of joint queries, keys and values, too; so only
    norms, other biases and scales don't. As DeCLIP published it."""
    scale_lr: float = 1.0
    """The learning rate of the logit scale is this times that of the rest; 0: it stays as it is."""
    warmup: int = 0
    """Steps from 0 to the peak."""
    start_lr: float | None = None
    """The first step's rate, from which the warm-up rises. With it, the last step of the warm-up
    has the peak and the last step of all `final_lr`, as DeCLIP counts. None: from 0, which no step
    has; nor has one quite `final_lr`."""
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    final_lr: float = 0.0
    part: tuple[float, float] = (0.0, 1.0)
    """The part of the schedule that this run goes through: a training in stages has (0, 0.75) in
    the first, (0.75, 1) in the second."""
    max_norm: float = 0.0
    """Gradients are scaled down to this total norm; 0: never."""

    def __post_init__(self):
        if self.lr <= 0:
            raise ConfigError(f"optim.lr {self.lr} must be above 0")
        if self.warmup < 0:
            raise ConfigError(f"optim.warmup {self.warmup} must not be negative")
        if self.start_lr is not None and (self.start_lr < 0 or self.warmup < 2):
            raise ConfigError(
                f"optim.start_lr {self.start_lr} must be 0 or above, and needs 2 or more steps of "
                "warm-up"
            )
        if self.scale_lr < 0 or not 0 <= self.momentum < 1:
            raise ConfigError(
                f"optim.scale_lr {self.scale_lr} must be 0 or above, "
                f"momentum {self.momentum} in [0, 1)"
            )
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ConfigError(f"optim.part {self.part} must be two rising numbers from 0 to 1")
