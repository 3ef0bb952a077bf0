"""Exported folders: a model's towers as programs of another runtime (`diptych.export` makes and
runs them), and what describes them.

    export.json      what runs the programs, the model's configuration, temperature and provenance,
                     how near the vectors were, and of all other files the size and the sha256
    image.onnx …     the programs, and tensors beside them that are too large for their file
    tokenizer files  what other programs than Diptych read
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.config import ClipConfig
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, DamagedError, DiptychError
from diptych.inputs.strangers import check_links
from diptych.weights.assemble import check_scale
from diptych.weights.native import check_sha256, made_here, sha256
from diptych.weights.read import read_json

META, VERSION = "export.json", 1
_INSIDE = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)?")
"""A file of the folder, or of a folder in it."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exported folder says about itself."""

    kind: str
    """Of `export.KINDS`."""
    precision: str
    """fp32 or int8."""
    config: ClipConfig
    scale: float
    """The logarithm of the factor on cosines."""
    bias: float | None
    """What is added to logits; None: the model has none."""
    provenance: dict[str, Any]
    """Where the weights come from."""
    check: dict[str, Any] = field(default_factory=dict[str, Any])
    """How near the vectors were to the model's: see `export.compare`."""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Of each other file its `bytes` and `sha256`; filled in by `describe` and `read`."""


def is_exported(folder: str | Path) -> bool:
    """Whether a folder of this machine is an exported one."""
    return (Path(folder).expanduser() / META).is_file()


def describe(folder: Path, exported: Exported) -> None:
    """Write the description of what lies in `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != META)
    said = {
        "format": "diptych-export",
        "version": VERSION,
        "kind": exported.kind,
        "precision": exported.precision,
        "config": to_dict(exported.config),
        "logit_scale": exported.scale,
        "logit_bias": exported.bias,
        "check": exported.check,
        "files": {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
            for path in files
        },
        "provenance": made_here() | exported.provenance,
    }
    (folder / META).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Exported:
    """The description, after a look at every file that it names. Raises DamagedError for one that
    is missing or isn't as it was written, CheckpointError for a folder that is too new or reaches
    out of itself."""
    for each in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        check_links(each)
    said = read_json(folder / META)
    if said.get("format") != "diptych-export":
        raise DamagedError(f"{folder / META} is not the description of an exported model")
    if said.get("version") != VERSION:
        raise CheckpointError(
            f"{folder} has format version {said.get('version')}; this Diptych reads {VERSION}: "
            "update it"
        )
    try:
        found = Exported(
            kind=str(said["kind"]),
            precision=str(said["precision"]),
            config=from_dict(ClipConfig, said["config"]),
            scale=float(said["logit_scale"]),
            bias=None if said["logit_bias"] is None else float(said["logit_bias"]),
            provenance=dict(said["provenance"]),
            check=dict(said["check"]),
            files={name: dict(about) for name, about in said["files"].items()},
        )
        check_scale(found.scale)
        sizes = {name: (about["bytes"], about["sha256"]) for name, about in found.files.items()}
    except (KeyError, AttributeError, DiptychError, TypeError, ValueError) as error:
        raise DamagedError(
            f"{folder / META} doesn't describe an exported model: {error}"
        ) from error
    for name, (size, digest) in sizes.items():
        if not _INSIDE.fullmatch(name):
            raise CheckpointError(f"{folder / META} names a file elsewhere, {name!r}")
        if not _DIGEST.fullmatch(str(digest)):
            raise DamagedError(f"{folder / META} has no sha256 of {name}")
        check_sha256(folder / name, digest, size)
    return found


def refuse(folder: str | Path) -> None:
    """Raises CheckpointError for an exported folder, where weights are wanted."""
    if is_exported(folder):
        raise CheckpointError(
            f"{folder} is an exported model: it runs (diptych.load, embed, search, classify, "
            "evaluate), and has no weights to train, convert or look into; give the model that it "
            "was made of"
        )
