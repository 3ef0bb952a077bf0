"""From anything that names weights to one tower."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from diptych import zoo
from diptych.checkpoints import native
from diptych.checkpoints.assemble import assemble_tower
from diptych.checkpoints.deploy import deploy as merge
from diptych.checkpoints.deploy import in_form
from diptych.checkpoints.describe import read_config
from diptych.checkpoints.detect import Side, match_tower, native_folder, open_foreign
from diptych.checkpoints.formats import Format, Source
from diptych.checkpoints.locate import locate
from diptych.checkpoints.state import State
from diptych.checkpoints.surgery import resize_tower
from diptych.config import ClipConfig, ImageTowerConfig, TextTowerConfig, UniRepLKNetConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.models import Tower

TowerConfig = ImageTowerConfig | TextTowerConfig
_PROJECTIONS = ("projection.weight", "pool.projection.weight")
"""Matrices to the shared space, one of which a tower has; a ResNet's may be within its pool."""


class LoadedTower(NamedTuple):
    """A tower, ready for evaluation, and what its checkpoint says."""

    tower: Tower
    config: ImageTowerConfig
    provenance: dict[str, Any]
    """Where the weights come from."""


def load_image_tower(
    path: str | Path,
    *,
    config: ClipConfig | ImageTowerConfig | str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    patch_size: int | None = None,
    deploy: bool = False,
    progress: bool = False,
) -> LoadedTower:
    """An image tower: the one that a file holds alone, which has no projection, or that of a whole
    model, with its projection to the shared space. The arguments are those of `load_model`;
    `config` may also be a tower's.

    Raises CheckpointError, in one sentence, for what can't be read as an image tower.
    """
    state, told, notes = read_tower(path, "image", config=config)
    if not isinstance(told, ImageTowerConfig):
        reason = notes.get("unknown", "it doesn't say how its image tower is built; give config=")
        raise CheckpointError(f"{path}: {reason}")
    state, told = resize_tower(state, told, image_size, patch_size)
    if deploy and isinstance(told, UniRepLKNetConfig):
        state, told = merge(state, told)
    embed_dim = next((len(state.shapes[name]) for name in _PROJECTIONS if name in state), None)
    try:
        tower = assemble_tower(
            state, told, embed_dim, device=device, dtype=dtype, progress=progress
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; is it a checkpoint of another tower?") from error
    return LoadedTower(tower, told, notes)


def read_tower(
    path: str | Path, side: Side, *, config: ClipConfig | TowerConfig | str | Path | None = None
) -> tuple[State, TowerConfig | None, dict[str, Any]]:
    """One tower's weights under our names (without `image.` or `text.`), its configuration and
    notes for the provenance, from a whole model or from a file of that tower alone. Among the
    notes, `unused` are the file's names that a tower has no use for.

    The configuration is None where neither `config` nor the file tells it; `unknown` among the
    notes may say why. Raises CheckpointError as `read_model`."""
    given = _given(config, side)
    place = locate(path, alone=side == "image")
    if folder := native_folder(place.path):
        state, meta = native.read(folder)
        return *_in_form(state.part(f"{side}."), given or _side(meta.config, side)), meta.provenance
    source = open_foreign(place.path)
    names = source.weights.tensors
    found = match_tower(names, side, place.path)
    known, notes = given or _side(place.config, side), dict(place.notes)
    try:
        table = found.table(names)
        state = table.to_ours(names)
        if known is None:
            known, told = _told(found, source, state, side)
            notes |= told
        state, known = _in_form(state.part(f"{side}."), known)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{place.path}, read as {found.name}: {error}") from error
    notes |= {"source": place.path.name, "format": found.name, "unused": table.unused(names)}
    return state, known, notes


def _given(config: ClipConfig | TowerConfig | str | Path | None, side: Side) -> TowerConfig | None:
    match config:
        case str() | Path() if side == "image" and not Path(config).is_file():
            return zoo.tower(str(config))
        case str() | Path():
            return _side(read_config(config), side)
        case _:
            return _side(config, side)


def _in_form(state: State, config: TowerConfig | None) -> tuple[State, TowerConfig | None]:
    """Of a tower that has more than one."""
    return in_form(state, config) if isinstance(config, UniRepLKNetConfig) else (state, config)


def _told(
    found: Format, source: Source, state: State, side: Side
) -> tuple[TowerConfig | None, dict[str, Any]]:
    """What the file says of its tower; without a configuration, why."""
    try:
        if found.text and not found.lacks(source.weights.tensors):
            config, notes = found.config(source, state)
            return _side(config, side), notes
        return (
            found.tower_config(source, state) if side == "image" and found.tower_config else None
        ), {}
    except (CheckpointError, ConfigError) as error:
        return None, {"unknown": str(error)}


def _side(config: ClipConfig | TowerConfig | None, side: Side) -> TowerConfig | None:
    """A model's tower; a tower is itself."""
    if isinstance(config, ClipConfig):
        return config.image if side == "image" else config.text
    return config
