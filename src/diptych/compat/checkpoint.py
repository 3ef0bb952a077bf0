"""Weights into a model that is there, as open_clip's `load_checkpoint` does it."""

from pathlib import Path
from typing import Any

import torch

from diptych.checkpoints.content import read
from diptych.checkpoints.detect import open_foreign
from diptych.compat.model import OpenClipModel
from diptych.errors import CheckpointError
from diptych.weights.tower import resize_tower, tower_weights


def load_checkpoint(
    model: OpenClipModel,
    checkpoint_path: str | Path,
    strict: bool = True,
    weights_only: bool = True,
    device: str | torch.device = "cpu",
) -> Any:
    """Fill `model` from a file or a folder in any layout that Diptych reads; returns the names that
    `load_state_dict` missed or didn't expect.

    A table of positions for pictures of another size is interpolated, as `force_image_size` does
    it. `strict=False` takes what is there under the model's names. No file is executed, whatever
    `weights_only` says, and the model stays where it is, whatever `device`. Raises CheckpointError
    for what can't be read or doesn't fit.
    """
    path = Path(checkpoint_path)
    if strict:
        image = model.config.image
        size = image.image_size if "image_size" in tower_weights(image).sizes else None
        content = read(path, config=model.config)
        resized, _ = resize_tower(content.state.part("image."), image, size)
        state = dict(content.state.replaced("image.", resized))
    else:
        state = dict(open_foreign(path).weights.tensors)
    try:
        return model.load_state_dict(state, strict)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {error}") from error
