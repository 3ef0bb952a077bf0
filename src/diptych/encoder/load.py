"""From a name to an Encoder."""

import os
from pathlib import Path

import torch

from diptych.checkpoints import load_model
from diptych.config import ClipConfig
from diptych.encoder.encoder import DTYPES, Encoder, Precision
from diptych.encoder.offload import offload
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import build_tokenizer


def load(
    name_or_path: str | os.PathLike[str],
    device: str | None = None,
    dtype: Precision | str = "fp32",
    *,
    config: ClipConfig | str | Path | None = None,
    image_size: int | None = None,
    patch_size: int | None = None,
    memory: str | None = None,
    deploy: bool = True,
    progress: bool = True,
) -> Encoder:
    """The model at `name_or_path`, ready to embed: a run folder, a checkpoint file or folder of any
    known layout, a name with published weights (`diptych models` lists them), or `hf-hub:org/name`.

    `device` None: the GPU if there is one. `dtype` is the towers' precision; the temperature stays
    in float32. `config`: how the model is built, where its file doesn't say: a name, or a published
    JSON file. `image_size` and `patch_size`, in pixels, change the image tower. `memory`, such as
    "20GB": at most so much of the weights on the device; the other blocks wait in main memory and
    come when they are needed (needs accelerate). `deploy`: an image tower that has a deploy form is
    merged, which gives the same vectors faster. `progress`: a bar for large weights.

    Raises CheckpointError if the weights can't be read, UnknownNameError if nothing has the name.
    """
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for, but torch sees no GPU; ask for 'cpu'")
    path = os.fspath(name_or_path)
    model, meta = load_model(
        path,
        config=config,
        device="cpu" if memory else device,
        dtype=DTYPES[dtype],
        image_size=image_size,
        patch_size=patch_size,
        deploy=deploy,
        progress=progress,
    )
    tokenizer = build_tokenizer(meta.config.tokenizer, meta.config.text.context_length, meta.folder)
    weights = None
    if memory:
        weights = model.state_dict()
        offload(model, torch.device(device), memory)
    return Encoder(model, tokenizer, name=path, provenance=meta.provenance, weights=weights)
