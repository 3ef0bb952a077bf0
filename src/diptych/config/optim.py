"""How weights move."""

from dataclasses import dataclass
from typing import Literal

from diptych.config.ranges import check_range
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
        check_range("optim.lr", self.lr, 0, open_low=True)
        for beta in self.betas:
            check_range("each of optim.betas,", beta, 0, 1, open_high=True)
        check_range("optim.eps", self.eps, 0)
        check_range("optim.momentum", self.momentum, 0, 1, open_high=True)
        check_range("optim.weight_decay", self.weight_decay, 0)
        check_range("optim.scale_lr", self.scale_lr, 0)
        check_range("optim.warmup", self.warmup, 0)
        check_range("optim.start_lr", self.start_lr, 0)
        check_range("optim.final_lr", self.final_lr, 0)
        check_range("optim.max_norm", self.max_norm, 0)
        if self.start_lr is not None and self.warmup < 2:
            raise ConfigError(
                f"optim.start_lr {self.start_lr} needs 2 or more steps of warm-up, "
                f"not {self.warmup}"
            )
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ConfigError(f"optim.part {self.part} must be two rising numbers from 0 to 1")
