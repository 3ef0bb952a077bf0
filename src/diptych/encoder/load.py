"""From a name to an Encoder."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from diptych.checkpoints import load_model
from diptych.config import ClipConfig, TowerConfig
from diptych.encoder.embedder import DTYPES, Precision
from diptych.encoder.encoder import Encoder
from diptych.encoder.offload import offload
from diptych.errors import CheckpointError, ConfigError, UnknownNameError
from diptych.export import load_exported
from diptych.inputs import Tokenizer, tokenizer_of
from diptych.weights.exported import is_exported
from diptych.weights.layout import GIVE_CONFIG


def load(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    dtype: Precision | str | torch.dtype = "fp32",
    *,
    config: ClipConfig | TowerConfig | str | Path | None = None,
    image_size: int | None = None,
    patch_size: int | None = None,
    patches: int | None = None,
    memory: str | None = None,
    deploy: bool = True,
    progress: bool = True,
) -> Encoder:
    """The model at `name_or_path`, ready to embed: a run folder, a checkpoint file or folder of any
    known layout, a name with published weights (`diptych models` lists them), or `hf-hub:org/name`;
    or a folder that `diptych convert --to onnx`, `openvino` or `immich` wrote, whose programs are
    then run on the CPU as they are.

    `device` None or "auto": the GPU if there is one. `dtype` is the towers' precision, fp32, bf16
    or fp16, or one of torch's; the temperature stays in float32. `config`: how the model is built,
    where its file doesn't say: a name, or a published
    JSON file. `image_size` and `patch_size`, in pixels, change the image tower; `patches` is the
    most patches of a picture, of a model that takes pictures of their own aspect (NaFlex).
    `memory`, such as "20GB": at most so much of the weights on the device; the other blocks wait in
    main memory and come when they are needed (needs accelerate). `deploy`: an image tower that has
    a deploy form is merged, which gives the same vectors faster. `progress`: a bar for large
    weights.

    Raises CheckpointError if the weights can't be read, UnknownNameError if nothing has the name,
    and ConfigError for a device that isn't there and for sizes that the model can't have.
    """
    path = os.fspath(name_or_path)
    if is_exported(path):
        elsewhere = device not in (None, "auto") and device_of(device).type != "cpu"
        changes = {
            "device": device if elsewhere else None,
            "dtype": None if dtype_of(dtype) == torch.float32 else dtype,
            "config": config,
            "image_size": image_size,
            "patch_size": patch_size,
            "patches": patches,
            "memory": memory,
        }
        return _load_exported(path, changes)
    place, precision = device_of(device), dtype_of(dtype)
    while True:
        model, meta = load_model(
            path,
            config=config,
            device="cpu" if memory else place,
            dtype=precision,
            image_size=image_size,
            patch_size=patch_size,
            patches=patches,
            deploy=deploy,
            progress=progress,
        )
        described = meta.config
        try:
            tokenizer = tokenizer_of(described, meta.folder)
            break
        except ConfigError:
            if meta.folder.is_dir():
                raise
            # A run in training has deleted the checkpoint meanwhile, and has a newer one.
    _check_vocabulary(path, tokenizer, meta.config)
    weights = None
    if memory:
        weights = model.state_dict()
        offload(model, place, memory)
    return Encoder(model, tokenizer, name=path, provenance=meta.provenance, weights=weights)


def _load_exported(path: str, changes: Mapping[str, object]) -> Encoder:
    """The model in an exported folder. Raises ConfigError for what would change it."""
    if unfit := [name for name, value in changes.items() if value is not None]:
        raise ConfigError(
            f"{path} is an exported model, which runs on the CPU as it was made: leave "
            f"{', '.join(unfit)} out, or export it anew"
        )
    model, about, tokenizer = load_exported(path)
    _check_vocabulary(path, tokenizer, about.config)
    return Encoder(model, tokenizer, name=path, provenance=about.provenance)


def _check_vocabulary(path: str, tokenizer: Tokenizer, config: ClipConfig) -> None:
    """Raises CheckpointError for a tokenizer that isn't the text tower's: its ids would be read as
    other words, or lie outside of the table. A table may be longer than a folder's own tokenizer
    needs."""
    words, own = config.text.vocabulary, config.tokenizer.kind == "huggingface"
    end = config.text.read_at
    if end is not None and end not in tokenizer.special_ids:
        raise CheckpointError(
            f"{path}: its text tower reads a text at its end, token {end}, which is none of the "
            f"tokenizer's special ids ({', '.join(map(str, sorted(tokenizer.special_ids)))}); put "
            f"the model's own tokenizer files beside its weights, or {GIVE_CONFIG}"
        )
    if words is None or tokenizer.vocab_size == words or (own and tokenizer.vocab_size < words):
        return
    raise CheckpointError(
        f"{path}: its text tower knows {words} tokens and the tokenizer ({config.tokenizer.kind}) "
        f"{tokenizer.vocab_size}, so they don't belong together; put the model's own tokenizer "
        f"files beside its weights, or {GIVE_CONFIG}"
    )


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of this name; None and "auto": the GPU if there is one. Raises ConfigError for one
    that isn't there, and for what names none.

    >>> from diptych.encoder.load import device_of
    >>> device_of("cpu")
    device(type='cpu')
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"{device!r} is no device; write 'cpu', 'cuda', 'cuda:1' or 'auto'"
        ) from error
    if not _is_here(found):
        raise ConfigError(
            f"device {str(device)!r} was asked for, but torch sees no GPU of that name; ask for "
            "'cpu' or 'auto'"
        )
    return found


def _is_here(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    try:
        torch.empty(1, device=device).cpu()  # `meta` holds no numbers to give back
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def dtype_of(dtype: str | torch.dtype) -> torch.dtype:
    """The precision of this name, in our spelling (fp16) or torch's (float16, torch.float16).
    Raises UnknownNameError for others.

    >>> from diptych.encoder.load import dtype_of
    >>> dtype_of("bf16"), dtype_of("float16")
    (torch.bfloat16, torch.float16)
    """
    spelled = str(dtype).removeprefix("torch.")
    names = DTYPES | {str(kind).removeprefix("torch."): kind for kind in DTYPES.values()}
    if spelled not in names:
        raise UnknownNameError("dtype", spelled, DTYPES)
    return names[spelled]
