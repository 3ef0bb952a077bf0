"""Whose weights a file holds: what training code put around a model, taken off and told."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from diptych.config.model import Side
from diptych.errors import CheckpointError
from diptych.families import layouts
from diptych.weights.layout import Layout
from diptych.weights.pickled import AVERAGES
from diptych.weights.read import WeightFile
from diptych.weights.state import State

_MATRIX = (".weight", ".qweight")
Part = Literal["model", "image", "text"]
"""What is wanted of weights: all of a model, or one tower."""
_ADAPTER = re.compile(
    r"(^|[._])lora_(A|B|up|down|embedding_[AB]|magnitude_vector)\b"
    r"|\.(ia3_l|(hada|lokr)_[wt]\d(_[ab])?|vera_\w+|oft_[rR]|boft_[RPs])(\.|$)"
)
"""Of PEFT's kinds: LoRA and DoRA, IA3, LoHa, LoKr, VeRA, OFT, BOFT."""
_WRAPPED = re.compile(r"(?<=\.)module\.")
"""DataParallel around a part of a model."""


def whole(names: Collection[str]) -> Layout | None:
    """The layout of a whole model with these names; None: of none that Diptych knows."""
    matching = (layout for layout in layouts() if layout.text and not layout.lacks(names))
    return next(matching, None)


def tower(names: Collection[str], side: Side) -> Layout | None:
    """The layout that knows all `names`, among which is a tower of this `side`."""
    # What only the other tower tells apart is called by the more general layout's name, or by one's
    # that can say how such a tower is built.
    tried = (
        sorted(layouts(), key=lambda each: each.tower_config is None)
        if side == "image"
        else sorted(layouts(), key=lambda each: each.priority)
    )
    for layout in tried:
        if set(marks(layout, side)) & set(names) and not layout.table(names).unknown(names):
            return layout
    return None


def marks(layout: Layout, side: Side) -> tuple[str, ...]:
    """Names of which one tells a tower of this side in the layout."""
    return layout.image if side == "image" else layout.text


def other(weights: State) -> str:
    """What weights are that begin as CLIP's and aren't; empty: none of these."""
    names = weights.keys()
    for name, like in weights.shapes.items():
        if name.endswith(_MATRIX) and (like.dtype.itemsize == 1 or not _is_real(like)):
            return (
                f"holds {name} in {like.dtype}: it was quantised; save the model from before that"
            )
    parts = set(".".join(names).split("."))
    if any(map(_ADAPTER.search, names)) or "modules_to_save" in parts:
        return (
            "is an adapter (LoRA or alike), or a model with one in it: merge it "
            "(PEFT's merge_and_unload()), and save the model"
        )
    if parts & {"flat_param", "_flat_param"}:
        return (
            "holds FSDP's flat parameters, which don't say the weights' shapes: save the model "
            "under FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT)"
        )
    return ""


def _is_real(like: Tensor) -> bool:
    return like.is_floating_point() or like.is_complex()


def without_prefix(weights: WeightFile, path: Path, part: Part) -> tuple[WeightFile, list[str]]:
    """The model's weights without what training code put before all their names (Lightning's
    `model.`, a wrapper's `clip_model.`), and the names of the rest: of whole modules beside the
    model, too. Of several models that which `weights.key` says, or else the only one that is no
    moving average. `part`: what is wanted of them. Raises CheckpointError for several, or where
    none is so called."""
    state, key = _without_wrappers(weights.tensors), weights.key
    is_bare = whole(state) or tower(state, "image") or tower(state, "text")
    if is_bare and not key:
        return _without_modules(weights._replace(tensors=state))
    found = _models(state)
    for side in ("text", "image") if part == "text" else get_args(Side):
        found = found or [each for each in _prefixes(state) if tower(state.part(each), side)]
    if key and f"{key}." not in found:
        prefixes = [] if is_bare else [prefix.rstrip(".") for prefix in found]
        names = ", ".join([*weights.versions, *prefixes])
        raise CheckpointError(
            f"{path} has no weights {key!r}, only "
            + (names or f"one set without a name: leave #{key} out")
        )
    trained = [prefix for prefix in found if not set(prefix.split(".")) & set(AVERAGES)]
    prefix = f"{key}." if key else next(iter(trained or found), "")
    others = [each for each in trained or found if not each.startswith(prefix)]
    if others and not key:
        raise CheckpointError(
            f"{path} holds several models ({', '.join([prefix, *others])}); say which: "
            f"{path}#{prefix.rstrip('.')}"
        )
    averages = [each.rstrip(".") for each in found if not each.startswith(prefix)]
    taken = f"{prefix.rstrip('.')}, not {', '.join(averages)}" if averages and not key else ""
    rest = [name for name in state if not name.startswith(prefix)]
    chosen, beside = _without_modules(
        weights._replace(tensors=state.part(prefix), taken=taken or weights.taken)
    )
    return chosen, [prefix + name for name in beside] + ([] if averages else rest)


def _without_wrappers(state: State) -> State:
    """Without what DataParallel puts before the names of a part, where they are a model's then."""
    if whole(state) or _models(state):
        return state
    plain = State({_WRAPPED.sub("", name): lazy for name, lazy in state.lazies.items()})
    return plain if len(plain) == len(state) and (whole(plain) or _models(plain)) else state


def _without_modules(weights: WeightFile) -> tuple[WeightFile, list[str]]:
    """A whole model's weights without the modules beside it (a classifier), and their names."""
    layout = whole(weights.tensors)
    beside = layout.table(weights.tensors).beside(weights.tensors) if layout else []
    lazies = weights.tensors.lazies
    own = {name: lazy for name, lazy in lazies.items() if name not in set(beside)}
    return (weights._replace(tensors=State(own)) if beside else weights), beside


def _models(state: State) -> list[str]:
    """What stands before whole models in it."""
    return [prefix for prefix in _prefixes(state) if whole(state.part(prefix))]


def _prefixes(names: Collection[str]) -> list[str]:
    """All that stands before a name that tells a layout, the shortest first."""
    marks: set[str] = set()
    for layout in layouts():
        marks |= {*layout.image, *layout.text}
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in marks:
                found.add(".".join(parts[:i]) + ".")
    return sorted(found, key=lambda prefix: (len(prefix), prefix))
