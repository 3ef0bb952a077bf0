"""Groups of parameters: with and without weight decay, and of each layer's learning rate.

https://github.com/mlfoundations/open_clip, src/open_clip_train/optim.py
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from diptych.compat.parts.locks import NamedGroups, parameters_of
from diptych.compat.parts.text_parts import TextParts, text_layer_groups
from diptych.errors import ConfigError

Excluded = Callable[[str, Tensor], bool]
Falls = Callable[[str], bool]


@runtime_checkable
class _Names(Protocol):
    def no_weight_decay(self) -> Iterable[str]: ...


@runtime_checkable
class _Patterns(Protocol):
    def no_weight_decay_patterns(self) -> Iterable[str]: ...


@runtime_checkable
class _Keywords(Protocol):
    def no_weight_decay_keywords(self) -> Iterable[str]: ...


@runtime_checkable
class Layered(Protocol):
    """A tower that says its layers."""

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """From the input to the end."""
        raise NotImplementedError


def exclude_from_wd(name: str, param: Tensor) -> bool:
    """Whether a parameter has no weight decay by its shape: biases, gains, scales."""
    return param.ndim <= 1


def collect_no_weight_decay(model: nn.Module) -> tuple[set[str], list[str]]:
    """(names, globs) of parameters without weight decay, as the model and its modules say it:
    `no_weight_decay` names, `no_weight_decay_patterns` globs, and `no_weight_decay_keywords` what
    names end in; of the module's own parameters alone.

    >>> from diptych import compat
    >>> from diptych.compat.open_clip_train.optim import collect_no_weight_decay
    >>> names, _ = collect_no_weight_decay(compat.CLIP.of(compat.create_model("ViT-S-32-alt",
    ...     load_weights=False).clip))
    >>> sorted(names)
    ['positional_embedding', 'visual.class_embedding', 'visual.positional_embedding']
    """
    names, patterns = set[str](), dict[str, None]()
    for path, module in model.named_modules():
        before = f"{path}." if path else ""
        if isinstance(module, _Names):
            names |= {before + name for name in module.no_weight_decay()}
        if isinstance(module, _Patterns):
            patterns |= {before + glob: None for glob in module.no_weight_decay_patterns()}
        if isinstance(module, _Keywords):
            patterns |= {f"{before}*{word}": None for word in module.no_weight_decay_keywords()}
    return names, list(patterns)


def make_wd_exclude(model: nn.Module, extra_patterns: Sequence[str] | None = None) -> Excluded:
    """Whether a parameter has no weight decay: by its shape, by what the model says, or because its
    name fits one of these globs."""
    names, patterns = collect_no_weight_decay(model)
    patterns += extra_patterns or ()

    def exclude(name: str, param: Tensor) -> bool:
        if exclude_from_wd(name, param) or name in names:
            return True
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    return exclude


def lr_scales_for_groups(layer_groups: Any, layer_decay: float) -> dict[str, float]:
    """Factors on the learning rate of named layers, input first: 1 for the last one, and once more
    `layer_decay` for each before it.

    >>> from diptych.compat.open_clip_train.optim import lr_scales_for_groups
    >>> lr_scales_for_groups([("embeddings", []), ("layer.0", []), ("proj", [])], 0.5)
    {'embeddings': 0.25, 'layer.0': 0.5, 'proj': 1.0}
    """
    last = len(layer_groups) - 1
    return {name: layer_decay ** (last - i) for i, (name, _) in enumerate(layer_groups)}


def wd_param_groups(
    model: nn.Module,
    weight_decay: float,
    exclude_fn: Excluded | None = None,
    fallback_fn: Falls | None = None,
) -> list[dict[str, Any]]:
    """What is trained, with and without weight decay; what `fallback_fn` says apart."""
    return _grouped(model, weight_decay, None, exclude_fn, fallback_fn)


def layer_decay_param_groups(
    model: nn.Module,
    weight_decay: float,
    text_layer_decay: float | None = None,
    image_layer_decay: float | None = None,
    audio_layer_decay: float | None = None,
    pooler_in_head: bool = True,
    exclude_fn: Excluded | None = None,
    fallback_fn: Falls | None = None,
) -> list[dict[str, Any]]:
    """The same, and apart by `lr_scale`, the greatest first: that of each layer of a tower with a
    decay, 1 for all else. Raises ConfigError for a decay of a tower that the model doesn't have, or
    that doesn't say its layers."""
    parts = dict(model.named_children())
    asked = {"text": text_layer_decay, "image": image_layer_decay, "audio": audio_layer_decay}
    scales = dict[int, float]()
    for side, decay in asked.items():
        if not decay:
            continue
        tower = parts.get({"image": "visual"}.get(side, side))
        if side == "text" and tower is None and isinstance(model, TextParts):
            groups = text_layer_groups(model)
        elif isinstance(tower, Layered):
            groups = tower.layer_groups(pooler_in_head)
        else:
            raise ConfigError(
                f"--{side}-layer-decay {decay}: the model has no {side} tower that says its layers"
            )
        factors = lr_scales_for_groups(groups, decay)
        for name, members in groups:
            for member in members:
                scales |= dict.fromkeys(map(id, parameters_of(member)), factors[name])
    found = _grouped(model, weight_decay, scales, exclude_fn, fallback_fn)
    return sorted(found, key=lambda group: (-group["lr_scale"], group["group_name"]))


def _grouped(
    model: nn.Module,
    weight_decay: float,
    scales: Mapping[int, float] | None,
    exclude_fn: Excluded | None,
    fallback_fn: Falls | None,
) -> list[dict[str, Any]]:
    """`scales`: by the parameters' identities; None: all have one."""
    exclude = exclude_fn or make_wd_exclude(model)
    found = dict[tuple[float, bool, bool], dict[str, Any]]()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0 if scales is None else scales.get(id(parameter), 1.0)
        kept, falls = exclude(name, parameter), bool(fallback_fn and fallback_fn(name))
        group = found.setdefault((round(scale, 8), kept, falls), {"params": []})
        title = ("no_wd" if kept else "wd") + ("/fallback" if falls else "")
        group["weight_decay"] = 0.0 if kept else weight_decay
        group["group_name"] = title if scales is None else f"lr_scale={scale:.4g}/{title}"
        if scales is not None:
            group["lr_scale"] = scale
        if falls:
            group["use_fallback"] = True
        group["params"].append(parameter)
    return list(found.values())
