"""From a name to an Encoder."""

import os

import torch

from diptych.checkpoints import load_model
from diptych.encoder.encoder import DTYPES, Encoder, Precision
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import build_tokenizer


def load(name_or_path: str | os.PathLike[str], device: str | None = None, dtype: Precision | str = "fp32") -> Encoder:
    """The model at `name_or_path`, ready to embed: a run folder, a checkpoint file or folder of any known format, a
    name with published weights (`diptych models` lists them), or `hf-hub:org/name`.

    `device` None: the GPU if there is one. `dtype` is the towers' precision; the temperature stays in float32.
    Raises CheckpointError if the weights can't be read, UnknownNameError if nothing answers to the name.
    """
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for, but torch sees no GPU; ask for 'cpu'")
    path = os.fspath(name_or_path)
    loaded = load_model(path, device=device)
    model, text = loaded.model, loaded.config.text
    for tower in (model.image, model.text):
        tower.to(DTYPES[dtype])
    tokenizer = build_tokenizer(loaded.config.tokenizer, text.context_length, loaded.meta.folder)
    return Encoder(model, tokenizer, name=path, provenance=loaded.provenance)
