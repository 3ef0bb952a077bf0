"""From anything that names weights to weights under our names: a whole model's, or one tower's."""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from diptych.checkpoints.describe import read_any_config
from diptych.checkpoints.detect import match, native_folder, open_foreign
from diptych.checkpoints.kinds import check_beside
from diptych.checkpoints.locate import Place, locate
from diptych.checkpoints.prefixes import Part
from diptych.checkpoints.steps import is_run, newest
from diptych.config import ClipConfig, ImageTowerConfig, TowerConfig
from diptych.config.alone import alone
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError, first_line
from diptych.models import build_tower
from diptych.weights import exported, native
from diptych.weights.layout import GIVE_CONFIG, Inputs, Layout, WeightSource
from diptych.weights.native import Meta
from diptych.weights.read import split_key
from diptych.weights.state import State
from diptych.weights.tower import tower_weights

Config = ClipConfig | TowerConfig
_MISSHAPEN = (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError)
"""What reading sizes off shapes raises: for a tensor that isn't there, that has too few dimensions
(none: `len` is a TypeError), or others than are unpacked, and for a size of 0."""
_AS_CLIP = "what it sees is made as for CLIP"
T = TypeVar("T", bound=TowerConfig)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What was read of a checkpoint."""

    state: State
    """Weights under our names, in the dtype in which they are stored; of a tower alone, without
    `image.` or `text.`."""
    config: Config | None
    """Of the part that was wanted; None: of a tower alone, where neither the caller nor the file
    says how it is built."""
    provenance: dict[str, Any]
    """Where the weights come from. `unused`: names of the file that belong to training and stay
    behind. `unknown`: why there is no configuration."""
    file: Path
    """The weights."""
    taken: str = ""
    """Which of several versions of the weights this is; empty: the file holds one."""
    assumed: str = ""
    """What of the configuration the weights don't say and nobody said."""


def read(
    path: str | Path, part: Part = "model", *, config: Config | str | Path | None = None
) -> Content:
    """The weights that `path` names (see `load_model`), all of a model or one tower, which may lie
    alone in its file. A tower alone is a model, too (`config.alone`).

    Raises CheckpointError, in one sentence, for what can't be read as that.
    """
    exported.refuse(path)
    given = read_any_config(config) if isinstance(config, str | Path) else config
    place = locate(path)
    if found := _read_native(place.path):
        state, meta = found
        if part == meta.config.missing:
            raise CheckpointError(f"{path} holds no {part} tower: the other one is alone in it")
        known = _config_of(given or meta.config, part)
        state, known = _in_form(_part(state, part), known)
        return Content(state=state, config=known, provenance=meta.provenance, file=meta.file)
    return _read_foreign(place, part, given)


def _read_native(path: Path) -> tuple[State, Meta] | None:
    if is_run(path):
        return newest(path, partial(native.read, checked=True), model_alone=True)
    folder = native_folder(path)
    return native.read(folder) if folder else None


def described(content: Content) -> Meta:
    """The description of a model."""
    assert isinstance(content.config, ClipConfig)
    return Meta(config=content.config, provenance=content.provenance, file=content.file)


def _read_foreign(place: Place, wanted: Part, given: Config | None) -> Content:
    said = _config_of(given or place.config, "image")
    source = open_foreign(place.path, wanted)
    if isinstance(said, ImageTowerConfig):
        source = replace(source, given=said)
    names = source.weights.tensors
    layout, part = match(source, wanted)
    known, notes = _config_of(given or place.config, part), dict(place.notes)
    if known is None and part == "model":
        check_beside(source, layout.config_file)
    try:
        table = layout.table(names)
        state = State.of(layout.supplied(source)).updated(table.to_ours(names))
        if known is None:
            known, inferred = _infer(layout, source, state, part)
            notes |= inferred
        state, known = _in_form(_part(state, part), known)
        if part != wanted:
            inputs = _inputs(layout, source, known, given or place.config)
            state, known = _as_model(state, known, inputs or Inputs(), notes)
            if inputs is None:
                notes["assumed"] = "; ".join(filter(None, [notes.get("assumed"), _AS_CLIP]))
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{place.path}, read as {layout.name}: {error}") from error
    except _MISSHAPEN as error:
        reason = f"{place.path}, read as {layout.name}: {_misshapen(error)}"
        raise CheckpointError(reason) from error
    assumed = notes.get("assumed", "")
    notes |= {"source": place.path.name, "format": layout.name}
    if unused := [*table.unused(names), *source.beside]:
        notes["unused"] = unused
    return Content(
        state=state,
        config=known,
        provenance=notes,
        file=source.file,
        taken=source.weights.taken,
        assumed=assumed,
    )


def _misshapen(error: Exception) -> str:
    """What is wrong with tensors from whose shapes no configuration could be inferred."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return f"a tensor has a shape that none has in such a model ({first_line(error)})"


def _inputs(
    layout: Layout, source: WeightSource, tower: Config | None, known: Config | None
) -> Inputs | None:
    """Of a tower alone, by the model it belongs to or what lies beside it; None: nothing says."""
    if isinstance(known, ClipConfig):
        return Inputs(known.preprocess, known.tokenizer)
    return layout.inputs(source.file.parent, tower) if isinstance(tower, TowerConfig) else None


def _as_model(
    state: State, tower: Config | None, inputs: Inputs, notes: dict[str, Any]
) -> tuple[State, ClipConfig]:
    """The model that a tower alone is. Raises CheckpointError for one of which nobody says how it
    is built."""
    if not isinstance(tower, TowerConfig):
        reason = f"it doesn't say how its tower is built; {GIVE_CONFIG}"
        raise CheckpointError(notes.get("unknown", reason))
    embed_dim = tower_weights(tower).embed_dim(state.shapes)
    width = embed_dim or build_tower(tower, None, "meta").feature_width
    config = alone(tower, width, projected=embed_dim is not None, **inputs._asdict())
    side = "image" if config.missing == "text" else "text"
    scale = {"logit_scale": torch.tensor([config.logit_scale])}
    return State({}).replaced(f"{side}.", state).updated(scale), config


def say_assumed(path: str | Path, content: Content, accepted: bool = True) -> None:
    """An AssumptionWarning where the configuration rests on one, or other weights are in the file,
    too. Raises CheckpointError instead where the first isn't accepted."""
    if content.taken:
        file, key = split_key(Path(path))
        another = ".".join(filter(None, [key, content.taken.rpartition(" ")[2]]))
        warnings.warn(
            f"{path} holds several versions of its weights; this is {content.taken}; "
            f"to read another: {file}#{another}",
            AssumptionWarning,
            stacklevel=3,
        )
    if not content.assumed:
        return
    said = f"{path} doesn't say how it is built; assumed from its shapes: {content.assumed}; "
    if not accepted:
        raise CheckpointError(
            f"{said}{GIVE_CONFIG}, or accept the guess by accept_guess= (--accept-guess)"
        )
    warnings.warn(f"{said}if that isn't so, {GIVE_CONFIG}", AssumptionWarning, stacklevel=3)


def _infer(
    layout: Layout, source: WeightSource, state: State, part: Part
) -> tuple[Config | None, dict[str, Any]]:
    """What the file says of itself; of a tower without a configuration, why it has none."""
    if part == "model":
        return layout.config(source, state)
    try:
        if layout.text and not layout.lacks(source.weights.tensors):
            config, notes = layout.config(source, state)
            return _config_of(config, part), notes
        if part == "image" and layout.tower_config:
            return layout.tower_config(source, state)
        if part == "text" and layout.text_config:
            return layout.text_config(source, state)
    except (CheckpointError, ConfigError) as error:
        return None, {"unknown": str(error)}
    return None, {}


def _config_of(config: Config | None, part: Part) -> Config | None:
    """A model's tower, where one is wanted; a tower is itself. Raises ConfigError for a tower's
    where there is a whole model."""
    if isinstance(config, ClipConfig):
        return config if part == "model" else config.image if part == "image" else config.text
    if config is not None and part == "model":
        raise ConfigError(
            f"config= is that of a {type(config).__name__} alone, and the file holds a whole model"
        )
    return config


def _part(state: State, part: Part) -> State:
    return state if part == "model" else state.part(f"{part}.")


def _in_form(state: State, config: Config | None) -> tuple[State, Config | None]:
    """Of a tower that has several forms, the one that the configuration asks for; and what parts
    share, once."""
    if isinstance(config, ClipConfig):
        if config.decoder is not None:
            state = tower_weights(config.decoder).shared(state, config.decoder)
        state, image = _tower_in_form(state, "image.", config.image)
        state, text = _tower_in_form(state, "text.", config.text)
        return state, replace(config, image=image, text=text)
    return (state, None) if config is None else tower_weights(config).in_form(state, config)


def _tower_in_form(state: State, prefix: str, tower: T) -> tuple[State, T]:
    own = state.part(prefix)
    part, formed = tower_weights(tower).in_form(own, tower)
    changed = part.keys() != own.keys() or formed != tower
    return (state.replaced(prefix, part), formed) if changed else (state, tower)
