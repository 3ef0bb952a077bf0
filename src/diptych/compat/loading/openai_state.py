"""Models of OpenAI's state dicts."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoints import load_model
from diptych.checkpoints.content import read
from diptych.compat.loading.activations import with_activation
from diptych.config import Activation, ClipConfig
from diptych.families.clip.layouts.openai import NUMBERS
from diptych.models import Clip


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
