"""From anything that names weights to weights under our names: a whole model's, or one tower's."""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from diptych import pretrained
from diptych.checkpoints.describe import read_config, read_image_config
from diptych.checkpoints.detect import Part, match, native_folder, open_foreign
from diptych.checkpoints.locate import Place, locate
from diptych.checkpoints.steps import is_run, newest
from diptych.config import ClipConfig, TowerConfig
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.weights import native
from diptych.weights.layout import GIVE_CONFIG, Layout, WeightSource
from diptych.weights.native import Meta
from diptych.weights.state import State
from diptych.weights.tower import tower_weights

Config = ClipConfig | TowerConfig
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
    alone in its file.

    Raises CheckpointError, in one sentence, for what can't be read as that.
    """
    given = _given(config, part)
    place = locate(path, alone=part == "image")
    if found := _read_native(place.path):
        state, meta = found
        state, known = _in_form(_part(state, part), given or _config_of(meta.config, part))
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


def _read_foreign(place: Place, part: Part, given: Config | None) -> Content:
    source = open_foreign(place.path)
    names = source.weights.tensors
    layout = match(names, part, place.path)
    known, notes = given or _config_of(place.config, part), dict(place.notes)
    try:
        table = layout.table(names)
        state = table.to_ours(names)
        if known is None:
            known, inferred = _infer(layout, source, state, part)
            notes |= inferred
        state, known = _in_form(_part(state, part), known)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{place.path}, read as {layout.name}: {error}") from error
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


def say_assumed(path: str | Path, content: Content, accepted: bool = True) -> None:
    """An AssumptionWarning where the configuration rests on one, or other weights are in the file,
    too. Raises CheckpointError instead where the first isn't accepted."""
    if content.taken:
        warnings.warn(
            f"{path} holds several versions of its weights; this is {content.taken}; "
            f"to read another: {path}#{content.taken.rpartition(' ')[2]}",
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


def _given(config: Config | str | Path | None, part: Part) -> Config | None:
    """The configuration that the caller says; a name may be that of an image tower alone."""
    if not isinstance(config, str | Path):
        return _config_of(config, part)
    if part == "image":
        file = Path(config)
        return read_image_config(file) if file.is_file() else pretrained.tower(str(config))
    return _config_of(read_config(config), part)


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
    except (CheckpointError, ConfigError) as error:
        return None, {"unknown": str(error)}
    return None, {}


def _config_of(config: Config | None, part: Part) -> Config | None:
    """A model's tower, where one is wanted; a tower is itself."""
    if not isinstance(config, ClipConfig) or part == "model":
        return config
    return config.image if part == "image" else config.text


def _part(state: State, part: Part) -> State:
    return state if part == "model" else state.part(f"{part}.")


def _in_form(state: State, config: Config | None) -> tuple[State, Config | None]:
    """Of a tower that has several forms, the one that the configuration asks for."""
    if isinstance(config, ClipConfig):
        state, image = _tower_in_form(state, "image.", config.image)
        state, text = _tower_in_form(state, "text.", config.text)
        return state, replace(config, image=image, text=text)
    return (state, None) if config is None else tower_weights(config).in_form(state, config)


def _tower_in_form(state: State, prefix: str, tower: T) -> tuple[State, T]:
    own = state.part(prefix)
    part, formed = tower_weights(tower).in_form(own, tower)
    changed = part.keys() != own.keys() or formed != tower
    return (state.replaced(prefix, part), formed) if changed else (state, tower)
