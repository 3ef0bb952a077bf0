"""The choice among losses, as open_clip_train makes it, and by a name, as open_clip's main branch
does."""

import inspect
from typing import Any

from torch import nn

from diptych.compat.loss import ClipLoss, CoCaLoss, DistillClipLoss, GenLipLoss, SigLipLoss
from diptych.compat.model_traits import (
    Described,
    ModelFamily,
    traits_from_model,
    unwrap_model,
    validate_distillation,
)
from diptych.errors import ConfigError

_BY_NAME: dict[str, type[nn.Module]] = {
    "clip": ClipLoss,
    "siglip": SigLipLoss,
    "distill_clip": DistillClipLoss,
    "coca": CoCaLoss,
    "genlip": GenLipLoss,
}
_CAPTIONS = {"caption_loss_weight": 2.0, "clip_loss_weight": 1.0}
"""open_clip_train's weights of CoCa's losses."""


def create_loss(args: Any, model: Any = None, **options: Any) -> nn.Module:
    """The loss of a name, `clip`, `siglip`, `distill_clip`, `coca` or `genlip`, with the options of
    its class; or the one that open_clip_train's arguments ask for: `distill`, a `model` that is
    CoCa, `siglip`, else InfoNCE. What arguments don't have is as by default. `model`: it says by
    its traits what it is, whatever the arguments call it, and with what its captions are padded,
    which isn't to be written (None: 0).

    Raises ConfigError for an option that the class hasn't, and for `coca` without `pad_id`.

    >>> from diptych.compat import create_loss
    >>> type(create_loss("siglip", chunk_size=64)).__name__
    'SigLipLoss'
    """
    if args is None or isinstance(args, str):
        return _named(args, options)
    if model is not None and isinstance(unwrap_model(model), Described):
        return create_loss_from_args(args, model)
    said = vars(args)
    if said.get("distill"):
        return _with(DistillClipLoss, said, _PAIRS)
    if is_coca(said.get("model")):
        weights = (said["coca_caption_loss_weight"], said["coca_contrastive_loss_weight"])
        pad = [] if model is None else [unwrap_model(model).pad_id]
        return _with(CoCaLoss, said, _PAIRS, *weights, *pad)
    if said.get("siglip"):
        if said.get("horovod"):
            raise ConfigError("horovod has no counterpart in Diptych; start processes by torchrun")
        return _with(SigLipLoss, said, _SIGMOID)
    return _with(ClipLoss, said, _PAIRS)


_PLACE = {"rank": "rank", "world_size": "world_size"}
_PAIRS = _PLACE | {
    "local_loss": "local_loss",
    "gather_with_grad": "gather_with_grad",
    "use_horovod": "horovod",
}
_SIGMOID = _PLACE | {"dist_impl": "loss_dist_impl"}
"""Options of a loss, and what open_clip_train calls them."""


def _with(
    kind: Any, said: dict[str, Any], names: dict[str, str], *given: Any, **more: Any
) -> nn.Module:
    options = {option: said[name] for option, name in names.items() if name in said}
    # Labels are kept for the next batch, but not where the loss is compiled.
    compiled = said.get("torchcompile") and said.get("torchcompile_strategy", "task") != "model"
    return kind(*given, cache_labels=not compiled, **options, **more)


def _named(name: str | None, options: dict[str, Any]) -> nn.Module:
    if name not in _BY_NAME:
        raise ConfigError(f"Unknown loss_type {name!r}; there are {', '.join(_BY_NAME)}")
    kind = _BY_NAME[name]
    if unknown := sorted(options.keys() - inspect.signature(kind).parameters.keys()):
        raise ConfigError(f"{unknown[0]}={options[unknown[0]]!r} is no option of the loss {name!r}")
    if kind is CoCaLoss:
        if "pad_id" not in options:
            raise ConfigError(
                "the loss 'coca' needs an explicit pad_id: the id that pads captions, or None "
                "where labels of padding are -100 already"
            )
        options = _CAPTIONS | options
    return kind(**options)


def create_loss_from_args(args: Any, model: Any) -> nn.Module:
    """The loss of open_clip_train's arguments for this model, which says by its traits what it is,
    whatever `args.model` is called. Raises ConfigError for a family that isn't distilled."""
    said, model = vars(args), unwrap_model(model)
    traits = traits_from_model(model)
    if said.get("distill"):
        validate_distillation(traits)
        return _with(DistillClipLoss, said, _PAIRS)
    captions = {
        "z_loss_weight": said.get("caption_z_loss_weight", 0.0),
        "compute_dtype": said.get("caption_loss_compute_dtype", "float32"),
    }
    match traits.family:
        case ModelFamily.GENLIP | ModelFamily.GENLAP:
            return GenLipLoss(**captions)
        case ModelFamily.COCA | ModelFamily.MAMMUT:
            weights = (said["coca_caption_loss_weight"], said["coca_contrastive_loss_weight"])
            return _with(CoCaLoss, said, _PAIRS, *weights, model.pad_id, **captions)
        case ModelFamily.CLIP | ModelFamily.CLAP:
            sigmoid = said.get("siglip")
            return _with(SigLipLoss, said, _SIGMOID) if sigmoid else _with(ClipLoss, said, _PAIRS)


def is_coca(model: object) -> bool:
    """By the model's name, which is how open_clip 3.3 says it."""
    name = str(model).lower()
    return "coca" in name or "mammut" in name
