"""An optimiser over a model's parameters, as open_clip_train's main branch makes one: what has no
weight decay, and layer-wise learning-rate decay (Clark et al. 2020, arXiv:2003.10555).

https://github.com/mlfoundations/open_clip, src/open_clip_train/optim.py
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from diptych.compat.model_traits import unwrap_model
from diptych.compat.open_clip_train.optim_groups import (
    collect_no_weight_decay,
    exclude_from_wd,
    layer_decay_param_groups,
    lr_scales_for_groups,
    make_wd_exclude,
    wd_param_groups,
)
from diptych.compat.open_clip_train.optim_kinds import TIMM, made, refuse_unknown
from diptych.compat.open_clip_train.scheduler import (
    assign_learning_rate,
    tensorize_learning_rate,
)
from diptych.errors import ConfigError

__all__ = [
    "OptimizerCfg",
    "collect_no_weight_decay",
    "create_optimizer",
    "exclude_from_wd",
    "layer_decay_param_groups",
    "lr_scales_for_groups",
    "make_wd_exclude",
    "wd_param_groups",
]


@dataclass
class OptimizerCfg:
    """Which optimiser, and with what; None: as it is by itself."""

    opt: str = "adamw"
    """`adamw`, `nadamw` (decoupled weight decay), or `timm/NAME`."""
    lr: float = 5e-4
    weight_decay: float = 0.2
    beta1: float | None = None
    beta2: float | None = None
    """Both are said, or neither."""
    eps: float | None = None
    momentum: float | None = None
    """Of timm's alone."""
    opt_kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further arguments of the optimiser, which count most."""
    text_layer_decay: float | None = None
    image_layer_decay: float | None = None
    """Factor on the learning rate for each layer away from the tower's end; 1: none."""
    audio_layer_decay: float | None = None
    """Is refused: no tower hears."""
    pooler_in_head: bool = True
    """Whether a text tower's pooling layer goes with its projection, or is a layer by itself."""
    wd_exclude_patterns: list[str] = field(default_factory=list[str])
    """Globs of names of parameters without weight decay."""
    fallback_list: list[str] | None = None
    """Globs of names of parameters that Muon and the like leave to AdamW."""


def create_optimizer(
    model: nn.Module,
    cfg: OptimizerCfg,
    device: torch.device | None = None,
    tensorize: bool = False,
) -> Optimizer:
    """The optimiser of what is trained of a model, also within DDP or torch.compile: in groups with
    and without weight decay, and of one `lr_scale` each, which `scheduler.assign_learning_rate`
    follows. `tensorize`: rates are tensors on `device`, for a step that is compiled.

    Raises UnknownNameError for an optimiser that nobody has, and ConfigError for an argument that
    it doesn't take, a layer decay out of (0, 1], one of a tower that the model doesn't have, and a
    `fallback_list` beside an optimiser that has no fallback.

    >>> from diptych import compat
    >>> from diptych.compat.open_clip_train.optim import OptimizerCfg, create_optimizer
    >>> model = compat.create_model("ViT-S-32-alt", load_weights=False)
    >>> optimizer = create_optimizer(model, OptimizerCfg(image_layer_decay=0.5))
    >>> len(optimizer.param_groups), min(group["lr"] for group in optimizer.param_groups)
    (28, 6.103515625e-08)
    """
    model, options = unwrap_model(model), _options(cfg)
    fallback = cfg.fallback_list or options.pop("fallback_list", None)
    if fallback and not cfg.opt.lower().startswith(TIMM):
        raise ConfigError(
            f"--opt-fallback-list is of Muon and its like (timm/nadamuon), not of {cfg.opt}"
        )
    refuse_unknown(cfg.opt, options)
    exclude = make_wd_exclude(model, cfg.wd_exclude_patterns)

    def falls_back(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in fallback or ())

    decays = _decays(cfg)
    if decays:
        groups = layer_decay_param_groups(
            model,
            cfg.weight_decay,
            **decays,
            pooler_in_head=cfg.pooler_in_head,
            exclude_fn=exclude,
            fallback_fn=falls_back,
        )
    else:
        groups = wd_param_groups(model, cfg.weight_decay, exclude, falls_back)
    optimizer = made(cfg.opt, groups, cfg.lr, cfg.weight_decay, options)
    assign_learning_rate(optimizer, cfg.lr)  # also for those who never call a scheduler
    if tensorize:
        tensorize_learning_rate(optimizer, device)
    return optimizer


def _options(cfg: OptimizerCfg) -> dict[str, Any]:
    if (cfg.beta1 is None) != (cfg.beta2 is None):
        raise ConfigError("beta1 and beta2 are said together, or neither")
    betas = None if cfg.beta1 is None else (cfg.beta1, cfg.beta2)
    given = {"betas": betas, "eps": cfg.eps, "momentum": cfg.momentum}
    found = {name: value for name, value in given.items() if value is not None}
    return found | (cfg.opt_kwargs or {})


def _decays(cfg: OptimizerCfg) -> dict[str, float]:
    """Those that change something."""
    found = dict[str, float]()
    for side in ("text", "image", "audio"):
        decay: float | None = vars(cfg)[f"{side}_layer_decay"]
        if decay is not None and not 0 < decay <= 1:
            raise ConfigError(f"--{side}-layer-decay must be in (0, 1], not {decay}")
        if decay is not None and decay < 1:
            found[f"{side}_layer_decay"] = decay
    return found
