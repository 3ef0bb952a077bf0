"""Weights from files, and into a model that is there, as open_clip's functions do it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.checkpoints.content import read
from diptych.checkpoints.detect import open_foreign
from diptych.compat.faces.face import OpenClipModel
from diptych.compat.loading.captioners import fill
from diptych.compat.loading.positions import resize_pos_embed, resize_text_pos_embed
from diptych.compat.naflex_genlip_model import GenLipModel
from diptych.errors import CheckpointError
from diptych.weights.tower import resize_tower, tower_weights


def load_state_dict(
    checkpoint_path: str | Path, device: str | torch.device = "cpu", weights_only: bool = True
) -> dict[str, Tensor]:
    """The tensors of a file or a folder, by the file's own names, whatever stood around them. No
    file is executed, whatever `weights_only` says. Raises CheckpointError for what can't be read.
    """
    tensors = open_foreign(Path(checkpoint_path)).weights.tensors
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def load_checkpoint(
    model: OpenClipModel | GenLipModel,
    checkpoint_path: str | Path,
    strict: bool = True,
    weights_only: bool = True,
    device: str | torch.device = "cpu",
) -> Any:
    """Fill `model` from a file or a folder in any layout that Diptych reads; returns the names that
    `load_state_dict` missed or didn't expect.

    Tables of positions for pictures or texts of another size are interpolated, as
    `force_image_size` and `force_context_length` do it; a model's bias becomes 0 where the file has
    none. `strict=False` takes what is there under the model's names. GenLIP takes open_clip's names
    or its authors'. No file is executed, whatever `weights_only` says, and the model stays where it
    is, whatever `device`. Raises CheckpointError for what can't be read or doesn't fit.
    """
    path = Path(checkpoint_path)
    if isinstance(model, GenLipModel):
        return fill(model, str(path), strict)
    if strict:
        image = model.config.image
        size = image.image_size if "image_size" in tower_weights(image).sizes else None
        content = read(path, config=model.config)
        resized, _ = resize_tower(content.state.part("image."), image, size)
        ours = dict(content.state.replaced("image.", resized))
        state = dict(model.table.to_foreign(ours))
        if model.logit_bias is not None:
            state.setdefault("logit_bias", torch.zeros_like(model.logit_bias))
    else:
        state = load_state_dict(path)
        resize_pos_embed(state, model)
    resize_text_pos_embed(state, model)
    try:
        return model.load_state_dict(state, strict)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {error}") from error
