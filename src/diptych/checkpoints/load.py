"""From anything that names weights to a model."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from diptych.checkpoints import native
from diptych.checkpoints.assemble import assemble
from diptych.checkpoints.deploy import deploy_model, model_in_form
from diptych.checkpoints.describe import read_config
from diptych.checkpoints.detect import match, native_folder, open_foreign
from diptych.checkpoints.locate import locate
from diptych.checkpoints.native import Meta
from diptych.checkpoints.state import State
from diptych.checkpoints.surgery import resize
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.models import Clip


class Loaded(NamedTuple):
    """A model, ready for evaluation, and what its checkpoint says."""

    model: Clip
    meta: Meta

    @property
    def config(self) -> ClipConfig:
        """The model's configuration."""
        return self.meta.config

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from."""
        return self.meta.provenance


def load_model(
    path: str | Path,
    *,
    config: ClipConfig | str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    patch_size: int | None = None,
    deploy: bool = False,
    progress: bool = False,
) -> Loaded:
    """The model at `path`: a checkpoint file or folder of any known format, a run folder (its
    newest complete checkpoint), `hf-hub:org/name[@revision]`, or a name of the zoo whose weights
    are published.

    `config` (or a zoo name, or the path of a published JSON configuration) overrules what stands
    beside foreign weights, which don't say everything about themselves. `dtype` is the towers'
    (None: float32). `image_size` and `patch_size`, in pixels, resize the position table and the
    patches' kernel. The model is in evaluation mode; on the CPU its weights stay mapped from the
    file where their dtype is right. `deploy` merges an image tower that has a deploy form: the same
    vectors, faster. `progress` shows a bar, for large weights.

    Raises CheckpointError, in one sentence, for weights that are missing, damaged, would execute
    code, are of another model or hold NaN; UnknownNameError, with near misses, for a name that
    nothing answers to."""
    state, meta = read_model(path, config=config)
    state, resized = resize(state, meta.config, image_size=image_size, patch_size=patch_size)
    try:
        if deploy:
            state, resized = deploy_model(state, resized)
        model = assemble(state, resized, device=device, dtype=dtype, progress=progress)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; is it a checkpoint of another model?") from error
    return Loaded(model, replace(meta, config=resized))


def read_model(
    path: str | Path, *, config: ClipConfig | str | Path | None = None
) -> tuple[State, Meta]:
    """Weights under our names, in the dtype in which they are stored, and their description. See
    `load_model`.

    In the provenance, `unused` are names of the file that belong to training and stay behind; it
    lacks where none do."""
    given = read_config(config)
    place = locate(path)
    if folder := native_folder(place.path):
        state, meta = native.read(folder)
        state, known = model_in_form(state, given or meta.config)
        return state, replace(meta, config=known)
    source = open_foreign(place.path)
    names = source.weights.tensors
    found = match(names, place.path)
    known, notes = given or place.config, dict(place.notes)
    try:
        table = found.table(names)
        state = table.to_ours(names)
        if known is None:
            known, told = found.config(source, state)
            notes |= told
        assert isinstance(known, ClipConfig)
        state, known = model_in_form(state, known)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{place.path}, read as {found.name}: {error}") from error
    notes |= {"source": place.path.name, "format": found.name}
    if unused := table.unused(names):
        notes["unused"] = unused
    return state, Meta(config=known, provenance=notes, file=source.file)
