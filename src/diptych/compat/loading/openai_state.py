"""Models of OpenAI's state dicts."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoints import load_model
from diptych.checkpoints.content import read
from diptych.checkpoints.detect import match, open_foreign
from diptych.compat.loading.activations import with_activation
from diptych.compat.loading.places import Source
from diptych.config import Activation, ClipConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip import NAME as OPEN_CLIP
from diptych.families.clip.layouts.open_clip import of_openai
from diptych.families.clip.layouts.openai import NUMBERS
from diptych.models import Clip
from diptych.weights.state import State


def clip_at(source: Source, device: torch.device, dtype: torch.dtype) -> Clip:
    """The model of weights in OpenAI's spelling: where nothing says how it is built, OpenAI's code
    does. Raises CheckpointError for weights that can't be read, or don't fit."""
    assert source.path is not None
    config = source.config or _config_of(source.path)
    return load_model(source.path, config=config, device=device, dtype=dtype).model


def _config_of(path: Path) -> ClipConfig:
    """How the model of weights that don't say it is built: as the published one of its shapes, with
    QuickGELU; of shapes that none has, as OpenAI's code builds it. Raises CheckpointError for what
    that doesn't read, either."""
    try:
        config = read(path).config
    except CheckpointError:
        source = open_foreign(path)
        layout, _ = match(source, "model")
        if layout.name != OPEN_CLIP:
            raise
        names = source.weights.tensors
        return of_openai(State({}).updated(layout.table(names).to_ours(names)))
    assert isinstance(config, ClipConfig)
    return with_activation(config, "quick_gelu")


def clip_of(state_dict: Mapping[str, Tensor], activation: Activation = "quick_gelu") -> Clip:
    """The model of an OpenAI state dict, in float32 and evaluation mode. Raises CheckpointError for
    one of another kind."""
    # The names by which such a state dict is known; the sizes are read off the weights.
    tensors = {name: torch.tensor(0) for name in NUMBERS} | dict(state_dict)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state_dict.pt"
        torch.save(tensors, file)
        config = read(file).config
        assert isinstance(config, ClipConfig)
        return load_model(file, config=with_activation(config, activation)).model.eval()
