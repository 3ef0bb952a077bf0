"""Training that starts from published weights: of a whole model, or of each tower."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.checkpoints.content import Config, described, read, say_assumed
from diptych.checkpoints.detect import Side
from diptych.config import ClipConfig, TowerConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError, ConfigError
from diptych.models import Clip, Tower
from diptych.weights.assemble import assemble, check_values
from diptych.weights.leftovers import left_behind, summary
from diptych.weights.mapping import check_fit
from diptych.weights.state import State
from diptych.weights.tower import interpolated, resize_tower, tower_weights

_UNKNOWN = "it doesn't say its activation, heads and the like: they are taken to be as here"
_FITTED = ("image_size", "patch_size", "context_length")
"""Fields that may differ between a file's tower and ours: weights are resized to them."""


class Started(NamedTuple):
    """What training starts from."""

    model: Clip
    folder: Path
    """Of the weights: the files of the model's own tokenizer may lie beside them."""
    notes: list[str]
    """What the user should know of the weights."""


def start_model(
    path: str | Path,
    config: ClipConfig | None = None,
    image_size: int | None = None,
    context_length: int | None = None,
) -> Started:
    """The model at `path`, in any layout, as `config` describes it (None: as it describes itself),
    for pictures of `image_size` pixels and texts of `context_length` tokens (None: as the
    configuration says).

    A position table of another grid is interpolated, one of longer texts is cut, and one of shorter
    texts stretched (Long-CLIP), where the tower can be; everything else must fit. Notes: a sentence
    on each of these, on what stays behind, and on settings of `config` that weights don't show,
    such as the activation, where the file says otherwise. Raises CheckpointError for what can't be
    read or doesn't fit.

    >>> import tempfile
    >>> from diptych import models, pretrained
    >>> from diptych.checkpoints import start_model
    >>> from diptych.weights import save_model
    >>> model = models.build(pretrained.get("tiny"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     started = start_model(save_model(f"{folder}/model", model), image_size=64)
    >>> started.model.config.image.image_size, len(started.notes)
    (64, 1)
    """
    content = read(path, config=config)
    state, meta = content.state, described(content)
    if missing := meta.config.missing:
        side = "text" if missing == "image" else "image"
        raise CheckpointError(
            f"{path} holds the {side} tower of a model alone, and training needs both: start a "
            f"model's {side} tower from it (--model.{side}.init)"
        )
    say_assumed(path, content)
    ours, said = meta.config, [left_behind(meta.provenance)]
    if context_length:
        ours = with_context(ours, context_length)
    notes = [] if config is None else _settings(path, config)
    try:
        given = state.part("image.")
        image, tower = resize_tower(given, ours.image, image_size)
        image, _ = tower_weights(tower).resize(image, tower)
        notes += interpolated(given, image)
        text, cut = tower_weights(ours.text).resize(state.part("text."), ours.text)
        state = state.replaced("image.", image).replaced("text.", text)
        model = assemble(state, replace(ours, image=tower))
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"the model can't start from {path}: {error}") from error
    said += [f"{path}: {sentence}" for sentence in dict.fromkeys((*notes, *cut))]
    return Started(model, meta.folder, list(filter(None, said)))


def with_context(config: ClipConfig, length: int) -> ClipConfig:
    """The model for texts of `length` tokens. Raises ConfigError for one that writes captions,
    whose decoder reads as many.

    >>> from diptych import pretrained
    >>> from diptych.checkpoints.start import with_context
    >>> with_context(pretrained.get("vit-b-32"), 248).text.context_length
    248
    """
    if config.decoder is not None:
        raise ConfigError(
            f"--model.text.context {length}: a model that writes captions keeps the context that "
            "it has"
        )
    return replace(config, text=replace(config.text, context_length=length))


def _settings(path: str | Path, config: ClipConfig) -> list[str]:
    """On each setting of a model's towers that differs from what its file says of itself."""
    try:
        content = read(path)
    except CheckpointError:  # it doesn't say, which is why it needs a configuration
        return [_UNKNOWN]
    if content.assumed:
        return [_UNKNOWN]
    theirs = content.config
    assert isinstance(theirs, ClipConfig)
    notes = list[str]()
    for side, old, new in (
        ("image", theirs.image, config.image),
        ("text", theirs.text, config.text),
    ):
        notes += [f"of the {side} tower {sentence}" for sentence in _differences(old, new)]
    return notes


def start_tower(tower: Tower[Any], side: Side, path: str | Path) -> list[str]:
    """Fills an initialised tower in place with weights from `path`: a whole model, or a tower
    alone, in any layout.

    A position table of another grid is interpolated, one of longer texts is cut. Everything must
    fit, but two things that are left as they are: a projection to a space of another width, and
    what the tower's family knows that older files lack. Returns a sentence for each of these, for
    what the file has beside, and for settings in which its tower differs, such as the activation.
    Raises CheckpointError for what can't be read or doesn't fit.

    >>> import tempfile
    >>> from diptych import models, pretrained
    >>> from diptych.checkpoints import start_tower
    >>> from diptych.weights import save_model
    >>> model = models.build(pretrained.get("tiny"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     start_tower(model.text, "text", save_model(f"{folder}/model", model))
    []
    """
    known = tower_weights(tower.config)
    try:
        content = read(path, side)
        said = [f"{name} is not used" for name in summary(content.provenance.get("unused", ()))]
        said += (
            [_UNKNOWN]
            if content.config is None or content.assumed
            else _differences(content.config, tower.config)
        )
        state, resized = known.resize(content.state, tower.config)
        expected, fresh = _without_fresh(state.shapes, tower)
        state = State({name: lazy for name, lazy in state.lazies.items() if name not in fresh})
        check_fit(state.shapes, expected)
        _copy(state, tower)
    except CheckpointError as error:
        raise CheckpointError(f"the {side} tower can't start from {path}: {error}") from error
    sentences = dict.fromkeys((*said, *resized, *fresh.values()))
    return [f"{path}: {sentence}" for sentence in sentences]


def _copy(state: State, tower: Tower[Any]) -> None:
    places = tower.state_dict(keep_vars=True)
    with torch.no_grad():
        for name in list(state):
            tensor = state.pop(name)
            check_values(name, tensor, places[name].dtype)
            places[name].copy_(tensor)


def _differences(theirs: Config, ours: TowerConfig) -> list[str]:
    if type(theirs) is not type(ours):
        return []  # the weights' names will tell
    harmless = {*_FITTED, *tower_weights(ours).not_compared}
    found = difference(theirs, ours)
    return [
        f"its {name} is {was}, and {now} here"
        for name, (was, now) in found.items()
        if name not in harmless
    ]


def _without_fresh(
    theirs: Mapping[str, Tensor], tower: Tower[Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What of the tower must be in the file; the names that are left out on either side, and the
    sentences on them."""
    ours, known = tower.state_dict(), tower_weights(tower.config)
    fresh: dict[str, str] = {}
    for prefix in known.projections:
        mine, found = _shapes(ours, prefix), _shapes(theirs, prefix)
        if mine != found:
            fresh |= {
                name: _projection(name, mine.get(name), found.get(name)) for name in mine | found
            }
    fresh |= known.fresh(theirs, ours)
    return {name: tensor for name, tensor in ours.items() if name not in fresh}, fresh


def _shapes(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, list[int]]:
    return {name: list(tensors[name].shape) for name in tensors if name.startswith(prefix)}


def _projection(name: str, mine: list[int] | None, found: list[int] | None) -> str:
    if mine is None:
        return f"{name} is not used: this tower has none"
    return f"{name} is left fresh: it is {mine} here, and the file has {found or 'none'}"
