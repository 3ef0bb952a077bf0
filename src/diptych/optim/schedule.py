"""The learning rate as a function of the step."""

import math

from diptych.config import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `steps`: a linear warm-up to `lr`,
    then the schedule to `final_lr`.

    `cosine`: final + (lr - final) (1 + cos(pi t)) / 2 with t from 0 after the warm-up to 1 at the
    end (Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts). With `config.part`,
    `steps` are that part of the schedule, and what is before it is taken to have been gone through.
    `constant` with a `config.cooldown` falls as (steps left / steps of the cooldown) ** power.

    >>> from diptych.config import OptimConfig
    >>> from diptych.optim import learning_rate
    >>> config = OptimConfig(lr=1.0, warmup=2)
    >>> [round(learning_rate(config, step, 6), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    >>> config = OptimConfig(lr=1.0, warmup=2, start_lr=0.1)
    >>> [round(learning_rate(config, step, 6), 3) for step in range(6)]
    [0.1, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    # The run covers first..last of a schedule that is `whole` steps long, as if it stood at
    # `place`.
    first, last = config.part
    whole = steps / (last - first)
    place = step + first * whole
    # Two warm-ups are in use. From zero: step 0 has already lr / warmup, and lr comes twice, as the
    # last of the warm-up and the first of the schedule. From `start_lr`: step 0 has exactly that,
    # lr comes once, and the schedule ends at the last step and not one after it.
    if config.start_lr is None:
        if place < config.warmup:
            return config.lr * (place + 1) / config.warmup
    else:
        if place < config.warmup - 1:
            return config.start_lr + (config.lr - config.start_lr) / (config.warmup - 1) * place
        place += 1  # steps that are done when this one is
    progress = (place - config.warmup) / max(1, whole - config.warmup)
    remaining = {
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "linear": 1 - progress,
        "constant": _cooled(config, 1 - place / whole),
    }
    return config.final_lr + (config.lr - config.final_lr) * remaining[config.schedule]


def _cooled(config: OptimConfig, left: float) -> float:
    """What is left of a constant rate where `left` is left of the steps."""
    if not config.cooldown:
        return 1.0
    return min(1.0, max(0.0, left) / config.cooldown) ** config.cooldown_power
