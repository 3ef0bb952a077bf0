"""The native format: one folder that says everything about itself.

    model.safetensors   the weights, under our names
    model.json          the ClipConfig (preprocessing and tokenizer included), the weights' size and
                        sha256, provenance

A Hugging Face tokenizer's own files lie beside them.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError, DamagedError
from diptych.inputs import Tokenizer
from diptych.inputs.strangers import check_links
from diptych.models import Clip, build
from diptych.version import __version__
from diptych.weights.atomic import atomic
from diptych.weights.mapped import read_safetensors, unreadable
from diptych.weights.mapping import check_fit
from diptych.weights.pickled import unwrapped
from diptych.weights.read import read_json
from diptych.weights.state import State
from diptych.weights.writing import save_tensors

WEIGHTS, META = "model.safetensors", "model.json"
VERSION = 1
METADATA = {"format": "pt"}
"""Of the file of weights, for who asks it for the framework (transformers)."""


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What a checkpoint says about its weights."""

    config: ClipConfig
    provenance: dict[str, Any]
    """Where the weights come from: plain JSON values."""
    file: Path
    """The weights."""

    @property
    def folder(self) -> Path:
        """Where the tokenizer's files lie, if it has any."""
        return self.file.parent


def save_model(
    folder: str | Path,
    model: Clip,
    *,
    tokenizer: Tokenizer | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `model` as a native checkpoint, whole or not at all; replaces an older checkpoint in
    that folder.

    `provenance` is kept as it is, beside the Diptych version and the date. Names are those from
    before modules were compiled. Raises CheckpointError if the folder holds something else or can't
    be written, and for a model that couldn't be read again, as it isn't what its configuration says
    (adapters in it, parts that were replaced).

    >>> import tempfile
    >>> from diptych import models, pretrained
    >>> from diptych.weights import save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(f"{folder}/model", models.build(pretrained.get("tiny")))
    ...     sorted(file.name for file in path.iterdir())
    ['model.json', 'model.safetensors']
    """
    folder = Path(folder)
    state = {unwrapped(name): tensor for name, tensor in model.state_dict().items()}
    try:
        check_fit(state, build(model.config, device="meta").state_dict())
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} could not be read again: {error}; the model isn't what its configuration "
            "says: merge adapters and parametrizations, put parts back, or keep its state_dict() "
            "by torch.save"
        ) from error
    with atomic(folder, is_native) as room:
        write(room / folder.name, model.config, state, provenance or {})
        if tokenizer is not None:
            tokenizer.save(room / folder.name)
    return folder


def write(
    folder: Path, config: ClipConfig, state: Mapping[str, Tensor], provenance: Mapping[str, Any]
) -> None:
    """The two files, into `folder`, which must not exist yet."""
    folder.mkdir()
    save_tensors(folder / WEIGHTS, state, METADATA)
    describe(folder, config, provenance)


def describe(folder: Path, config: ClipConfig, provenance: Mapping[str, Any]) -> None:
    """The second file, for the weights that are there already."""
    meta = {
        "format": "diptych",
        "version": VERSION,
        "config": to_dict(config),
        "weights": {"bytes": (folder / WEIGHTS).stat().st_size, "sha256": sha256(folder / WEIGHTS)},
        "provenance": made_here() | dict(provenance),
    }
    (folder / META).write_text(json.dumps(meta, indent=2) + "\n")


def made_here() -> dict[str, str]:
    """What wrote a folder, and when, in UTC."""
    now = datetime.datetime.now(datetime.UTC)
    return {"diptych": __version__, "date": now.isoformat(timespec="seconds")}


def check(folder: Path) -> None:
    """Raises what `read` raises of the folder."""
    read(folder)


def read(folder: Path, checked: bool = False) -> tuple[State, Meta]:
    """Weights (memory-mapped) and description. `checked`: the weights are known to be those that it
    describes. Raises DamagedError if either is missing or isn't as it was written, CheckpointError
    if it can't be read, is too new or lies elsewhere by a link."""
    check_links(folder)
    meta = read_json(folder / META)
    provenance = meta.get("provenance", {})
    described = all(isinstance(meta.get(name), dict) for name in ("config", "weights"))
    if meta.get("format") != "diptych" or not described or not isinstance(provenance, dict):
        raise DamagedError(f"{folder / META} is not the description of a Diptych checkpoint")
    if meta.get("version") != VERSION:
        raise CheckpointError(
            f"{folder} has format version {meta.get('version')}; this Diptych reads {VERSION}: "
            "update it"
        )
    try:
        config = from_dict(ClipConfig, meta["config"])
    except (ConfigError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{folder / META} doesn't describe a model: {error}") from error
    if not checked:
        weights = meta["weights"]
        check_sha256(folder / WEIGHTS, weights.get("sha256", ""), weights.get("bytes"))
    return read_safetensors(folder / WEIGHTS), Meta(
        config=config, provenance=provenance, file=folder / WEIGHTS
    )


def is_native(folder: Path) -> bool:
    """Whether both files of a native checkpoint are there."""
    return (folder / META).is_file() and (folder / WEIGHTS).is_file()


def sha256(path: Path) -> str:
    """The file's sha256, in hexadecimal. Raises CheckpointError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def check_sha256(path: Path, expected: str, size: int | None = None) -> None:
    """Raises DamagedError unless the file has this size and sha256; an empty `expected` is not
    checked."""
    if not path.is_file():
        raise DamagedError(f"{path} is missing")
    actual = path.stat().st_size
    if size is not None and actual != size:
        raise DamagedError(
            f"{path} has {actual} bytes instead of {size}: it is damaged; copy or download it again"
        )
    if expected and sha256(path) != expected:
        raise DamagedError(
            f"{path} doesn't have the sha256 {str(expected)[:12]}…: it is damaged; "
            "copy or download it again"
        )
