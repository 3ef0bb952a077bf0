"""How open_clip_train's optimiser and schedule are spelled here."""

from dataclasses import replace
from typing import Any, NamedTuple

from diptych.compat.open_clip_train.optim_kinds import TIMM
from diptych.compat.open_clip_train.options import Options
from diptych.config import OptimConfig
from diptych.errors import ConfigError, UnknownNameError

_LR = 5e-4


class _Defaults(NamedTuple):
    betas: tuple[float, float] | None = None
    eps: float | None = None
    momentum: float | None = None


_OF_TIMM = {
    "adamw": _Defaults((0.9, 0.999), 1e-8),
    "lamb": _Defaults((0.9, 0.999), 1e-6),
    "lion": _Defaults((0.9, 0.99)),
    "sgd": _Defaults(momentum=0.9),
}
"""Those of timm that are the same algorithm here, with timm's defaults. Its sgd is Nesterov's."""


def optim_of(options: Options) -> OptimConfig:
    """The optimiser, with open_clip's defaults by the model's name. Raises ConfigError for settings
    that open_clip refuses, and UnknownNameError for what it doesn't know, or isn't here."""
    name, defaults = _optimizer(options)
    given: dict[str, Any] = {"name": name, "lr": _LR if options.lr is None else options.lr}
    if defaults.betas:
        one, two = defaults.betas
        given["betas"] = (
            one if options.beta1 is None else options.beta1,
            two if options.beta2 is None else options.beta2,
        )
    if defaults.eps is not None:
        given["eps"] = defaults.eps if options.eps is None else options.eps
    if defaults.momentum is not None:
        given["momentum"] = defaults.momentum if options.momentum is None else options.momentum
    _refuse_unread(options, name, defaults)
    return replace(
        OptimConfig(**given),
        weight_decay=options.wd,
        # timm leaves a model's position tables out, open_clip's own groups don't.
        decayed="matrices" if options.opt.lower().startswith(TIMM) else "tensors",
        max_norm=options.grad_clip_norm or 0.0,
        **_schedule(options),
    )


def _optimizer(options: Options) -> tuple[str, _Defaults]:
    asked = options.opt.lower()
    if asked == "adamw":
        return asked, _of_adamw(options.model)
    name = asked.removeprefix(TIMM)
    if name == asked or name not in _OF_TIMM:
        raise UnknownNameError(
            "optimiser of --opt", options.opt, ["adamw", *(TIMM + each for each in _OF_TIMM)]
        )
    if options.lr is None:
        raise ConfigError(f"--opt {options.opt} needs --lr, as in open_clip")
    if (options.beta1 is None) != (options.beta2 is None):
        raise ConfigError(f"--opt {options.opt}: --beta1 and --beta2 are said together, or neither")
    return name, _OF_TIMM[name]


def _of_adamw(model_name: str) -> _Defaults:
    """CLIP's own (Radford et al. 2021, arXiv:2103.00020, table 18)."""
    is_vit = "vit" in model_name.lower()
    return _Defaults((0.9, 0.98), 1e-6) if is_vit else _Defaults((0.9, 0.999), 1e-8)


def get_default_params(model_name: str) -> dict[str, float]:
    """AdamW's settings of a model, by whether it is a ViT by its name.

    >>> from diptych.compat.open_clip_train.params import get_default_params
    >>> get_default_params("RN50")["beta2"]
    0.999
    """
    chosen = _of_adamw(model_name)
    assert chosen.betas is not None
    assert chosen.eps is not None
    beta1, beta2 = chosen.betas
    return {"lr": OptimConfig().lr, "beta1": beta1, "beta2": beta2, "eps": chosen.eps}


def _refuse_unread(options: Options, name: str, defaults: _Defaults) -> None:
    for flag, value, read in (
        ("--beta1", options.beta1, defaults.betas),
        ("--eps", options.eps, defaults.eps),
        ("--momentum", options.momentum, defaults.momentum),
    ):
        if value is not None and read is None:
            raise ConfigError(f"{flag} {value} is nothing that {name} uses: leave it out")


def _schedule(options: Options) -> dict[str, Any]:
    kind = options.lr_scheduler
    if kind not in ("cosine", "const", "const-cooldown"):
        raise UnknownNameError("--lr-scheduler", kind, ("cosine", "const", "const-cooldown"))
    if options.skip_scheduler:
        return {"schedule": "constant"}
    if kind != "const-cooldown":
        return {"schedule": "cosine" if kind == "cosine" else "constant", "warmup": options.warmup}
    if not options.epochs_cooldown:
        raise ConfigError("--lr-scheduler const-cooldown needs --epochs-cooldown")
    if options.epochs_cooldown > options.epochs:
        raise ConfigError(
            f"--epochs-cooldown {options.epochs_cooldown} must not be more than --epochs "
            f"{options.epochs}"
        )
    return {
        "schedule": "constant",
        "warmup": options.warmup,
        "final_lr": options.lr_cooldown_end,
        "cooldown": options.epochs_cooldown / options.epochs,
        "cooldown_power": options.lr_cooldown_power,
    }
