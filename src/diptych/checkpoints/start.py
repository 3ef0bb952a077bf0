"""Training that starts from published towers."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoints.assemble import check_values
from diptych.checkpoints.detect import Side
from diptych.checkpoints.rename import check_fit, summary
from diptych.checkpoints.state import State
from diptych.checkpoints.surgery import fit_grid
from diptych.checkpoints.towers import TowerConfig, read_tower
from diptych.config import HuggingFaceTextConfig, TextConfig, TimmConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.models import Tower

_PROJECTIONS = ("projection.", "pool.projection.")
_ATTENTION_NORM = re.compile(r"blocks\.\d+\.attention\.norm\.(weight|bias)")
_UNTOLD = "it doesn't tell its activation, heads and the like: they are taken to be as here"
_HARMLESS = {
    *("image_size", "patch_size", "context_length"),  # fitted
    *("patch_dropout", "stochastic_depth", "layer_scale"),  # of training, and of fresh weights
    "attention_norm",  # told of its weights
}
"""Fields that may differ between a file's tower and ours."""


def start_tower(tower: Tower, side: Side, path: str | Path) -> list[str]:
    """Fills an initialised tower in place with weights from `path`: a whole model, or a tower
    alone, in any format.

    A position table of another grid is interpolated, one of longer texts is cut. Everything must
    fit, but two things that are left as they are: a projection to a space of another width, and
    norms inside attention, which EVA-02's pretraining on images alone did without. Returns a
    sentence for each of these, for what the file has beside, and for settings in which its tower
    differs, such as the activation. Raises CheckpointError for what can't be read or doesn't fit.
    """
    try:
        state, told, notes = read_tower(path, side)
        said = [f"{name} is not used" for name in summary(notes.get("unused", ()))]
        said += [_UNTOLD] if told is None else _differences(told, tower.config)
        state, more = _fitted(state, tower.config)
        expected, fresh = _without_fresh(state.shapes, tower.state_dict())
        state = State({name: lazy for name, lazy in state.lazies.items() if name not in fresh})
        check_fit(state.shapes, expected)
        places = tower.state_dict(keep_vars=True)
        with torch.no_grad():
            for name in list(state):
                tensor = state.pop(name)
                check_values(name, tensor, places[name].dtype)
                places[name].copy_(tensor)
    except CheckpointError as error:
        raise CheckpointError(f"the {side} tower can't start from {path}: {error}") from error
    return [f"{path}: {sentence}" for sentence in dict.fromkeys((*said, *more, *fresh.values()))]


def _differences(theirs: TowerConfig, ours: TowerConfig) -> list[str]:
    if type(theirs) is not type(ours):
        return []  # the weights' names will tell
    found = difference(theirs, ours)
    return [
        f"its {name} is {was}, and {now} here"
        for name, (was, now) in found.items()
        if name not in _HARMLESS
    ]


def _fitted(state: State, config: TowerConfig) -> tuple[State, list[str]]:
    """The weights with the tower's numbers of positions, and what was done."""
    match config:
        case TextConfig():
            return _fit_text(state, config)
        case TimmConfig() | HuggingFaceTextConfig():
            return state, []
        case _:
            fitted = fit_grid(state, config)
            changed = [
                name
                for name, like in fitted.shapes.items()
                if like.shape != state.shapes[name].shape
            ]
            return fitted, [
                f"{name} is interpolated to {list(fitted.shapes[name].shape)}" for name in changed
            ]


def _fit_text(state: State, config: TextConfig) -> tuple[State, list[str]]:
    words, length = (len(state.shapes.get(name, ())) for name in ("tokens.weight", "positions"))
    if words and words != config.vocab_size:
        raise CheckpointError(
            f"its vocabulary has {words} entries, and this tower's has {config.vocab_size}"
        )
    if 0 < length < config.context_length:
        raise CheckpointError(f"it takes {length} tokens, and this tower {config.context_length}")
    if length <= config.context_length:
        return state, []
    cut = state.updated({"positions": state["positions"][: config.context_length]})
    return cut, [f"positions is cut from {length} to {config.context_length} tokens"]


def _without_fresh(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What of the tower must be in the file; the names that are left out on either side, and the
    sentences on them."""
    fresh: dict[str, str] = {}
    for prefix in _PROJECTIONS:
        mine, found = (
            {n: list(t.shape) for n, t in all.items() if n.startswith(prefix)}
            for all in (ours, theirs)
        )
        if mine != found:
            fresh |= {
                name: _projection(name, mine.get(name), found.get(name)) for name in mine | found
            }
    lacking = [name for name in ours if _ATTENTION_NORM.fullmatch(name)]
    if lacking and not set(lacking) & set(theirs):
        fresh |= dict.fromkeys(
            lacking, "it has no norms inside attention: weight 1 and bias 0 are kept"
        )
    return {name: tensor for name, tensor in ours.items() if name not in fresh}, fresh


def _projection(name: str, mine: list[int] | None, found: list[int] | None) -> str:
    if mine is None:
        return f"{name} is not used: this tower has none"
    return f"{name} is left fresh: it is {mine} here, and the file has {found or 'none'}"
