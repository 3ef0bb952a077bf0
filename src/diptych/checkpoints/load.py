"""From anything that names weights to a model, or to an image tower."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from diptych.checkpoints.content import Config, described, read, say_assumed
from diptych.config import ClipConfig, ImageTowerConfig, PreprocessConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.models import Clip, Tower
from diptych.weights.assemble import assemble, assemble_tower
from diptych.weights.layout import GIVE_CONFIG
from diptych.weights.native import Meta
from diptych.weights.tower import resize_tower, tower_weights


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


class LoadedTower(NamedTuple):
    """A tower, ready for evaluation, and what its checkpoint says."""

    tower: Tower[Any]
    config: ImageTowerConfig
    provenance: dict[str, Any]
    """Where the weights come from."""


def load_model(
    path: str | Path,
    *,
    config: Config | str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    patch_size: int | None = None,
    patches: int | None = None,
    deploy: bool = False,
    progress: bool = False,
) -> Loaded:
    """The model at `path`: a checkpoint file or folder in any known layout, a run folder (its
    newest complete checkpoint), `hf-hub:org/name[@revision]`, or the name of a published model.

    `config` (or a model's name, or the path of a published JSON configuration) overrules what
    stands beside foreign weights, which don't say everything about themselves; of a tower alone it
    may be the tower's. `dtype` is the towers' (None: float32). `image_size` and `patch_size`, in
    pixels, resize the position table and the patches' kernel; `patches` is the most patches of a
    picture that is seen in its own aspect (`PreprocessConfig.patches`). None: as the model's files
    say. The model is in evaluation mode; on the CPU its weights stay mapped from the file where
    their dtype is right. `deploy` merges an image tower that has a deploy form: the same vectors,
    faster. `progress` shows a bar, for large weights.

    Raises CheckpointError, in one sentence, for weights that are missing, damaged, would execute
    code, are of another model or hold NaN; UnknownNameError, with near misses, for a name that
    nothing answers to; ConfigError for sizes that the model can't have. Warns (AssumptionWarning)
    of what neither the weights nor `config` say, and is taken to be as in published models of the
    same shapes.

    >>> import tempfile
    >>> from diptych import models, pretrained
    >>> from diptych.checkpoints import load_model
    >>> from diptych.weights import save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(f"{folder}/model", models.build(pretrained.get("tiny")))
    ...     load_model(path, image_size=96).config.image.image_size
    96
    """
    content = read(path, config=config)
    say_assumed(path, content)
    state, meta = content.state, described(content)
    image, tower = resize_tower(state.part("image."), meta.config.image, image_size, patch_size)
    try:
        if deploy:
            image, tower = tower_weights(tower).deploy(image, tower)
        if tower != meta.config.image:
            state = state.replaced("image.", image)
        preprocess = _with_budget(meta.config, patches)
        resized = replace(meta.config, image=tower, preprocess=preprocess)
        model = assemble(state, resized, device=device, dtype=dtype, progress=progress)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; is it a checkpoint of another model?") from error
    return Loaded(model, replace(meta, config=resized))


def _with_budget(config: ClipConfig, patches: int | None) -> PreprocessConfig:
    """How pictures are made, with that many patches of each at the most."""
    if patches is None:
        return config.preprocess
    if not config.image.native:
        raise ConfigError(
            f"patches= (--patches {patches}) is for models that take pictures of their own aspect; "
            "this one takes squares, whose size image_size= (--image-size) changes"
        )
    return replace(config.preprocess, patches=patches)


def load_image_tower(
    path: str | Path,
    *,
    config: Config | str | Path | None = None,
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

    >>> import tempfile
    >>> import torch
    >>> from diptych import models, pretrained
    >>> from diptych.checkpoints import load_image_tower
    >>> from diptych.weights import save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(f"{folder}/model", models.build(pretrained.get("tiny")))
    ...     tower = load_image_tower(path).tower
    ...     tower(torch.zeros(1, 3, 48, 48)).pooled.shape
    torch.Size([1, 128])
    """
    content = read(path, "image", config=config)
    if not isinstance(content.config, ImageTowerConfig):
        reason = content.provenance.get(
            "unknown", f"it doesn't say how its image tower is built; {GIVE_CONFIG}"
        )
        raise CheckpointError(f"{path}: {reason}")
    say_assumed(path, content)
    state, tower = resize_tower(content.state, content.config, image_size, patch_size)
    try:
        if deploy:
            state, tower = tower_weights(tower).deploy(state, tower)
        embed_dim = tower_weights(tower).embed_dim(state.shapes)
        module = assemble_tower(
            state, tower, embed_dim, device=device, dtype=dtype, progress=progress
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; is it a checkpoint of another tower?") from error
    return LoadedTower(module, tower, content.provenance)
