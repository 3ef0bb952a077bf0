"""Vectors on disk, so that no picture and no text goes through a tower twice.

    cache/
      images/KEY/00000000-00000512.safetensors    features of these samples of a set, and why some have none
      samples/KEY/00000000-00000512.safetensors   what the same samples say: keys, labels, captions
      texts/KEY/DIGEST.safetensors                vectors of texts, and the texts

A KEY is a digest of everything that its blocks depend on: weights, precision and configuration; how
pictures are resized; the files of the set, with sizes and times. A block appears whole or not at
all and carries a checksum: one that doesn't fit is made again. So a kill loses one block at most,
and any number of processes may write."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.data.files import write_atomically
from diptych.distributed import Peers
from diptych.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Block:
    """What one file of the cache holds."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON."""


class Cache:
    """Blocks by place ("images/KEY/00000000-00000512"), on disk; without a folder, in memory.

    >>> import tempfile, torch
    >>> from diptych.encoder import Block, Cache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Cache(folder).write("images/a/0", Block(tensors={"rows": torch.arange(3)}, about={"bad": {}}))
    ...     Cache(folder).read("images/a/0").tensors["rows"].tolist(), Cache(folder).read("images/a/1")
    ([0, 1, 2], None)
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.folder = Path(folder).expanduser() if folder is not None else None
        self.damaged: list[Path] = []
        """Files whose checksum didn't fit, and that were removed to be made again."""
        self._held: dict[str, Block] = {}

    def read(self, place: str) -> Block | None:
        """The block, its tensors memory-mapped; None if there is none, or only a damaged one."""
        if place in self._held or self.folder is None:
            return self._held.get(place)
        path = self._path(place)
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            self.damaged.append(path)
            path.unlink(missing_ok=True)
            return None

    def write(self, place: str, block: Block, *, lasting: bool = True) -> None:
        """Keep the block; one that isn't `lasting` only in memory. Raises DataError if the disk
        won't take it."""
        if self.folder is None or not lasting:
            self._held[place] = block
            return
        try:
            write_atomically(self._path(place), partial(_write, block))
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"the cache in {self.folder} can't be written ({error}); make room, or choose another --cache"
            ) from error

    def places(self, kind: str) -> list[str]:
        """The blocks below `kind` ("texts/KEY"), sorted."""
        held = [place for place in self._held if place.startswith(f"{kind}/")]
        found = (self.folder / kind).glob("*.safetensors") if self.folder is not None else ()
        return sorted({*held, *(f"{kind}/{path.stem}" for path in found)})

    def share(self, places: list[str], peers: Peers) -> None:
        """Return when every process has the blocks in `places` that any of them wrote; all of them
        call it."""
        held = peers.all_gather_objects(
            {place: self._held[place] for place in places if place in self._held}
        )
        for blocks in held:
            self._held |= blocks

    def _path(self, place: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{place}.safetensors"


def digest(*parts: object) -> str:
    """A name for these values, which are plain JSON.

    >>> from diptych.encoder.cache import digest
    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", 2)
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _write(block: Block, path: Path) -> None:
    about = json.dumps(dict(block.about))
    tensors = {name: tensor.contiguous() for name, tensor in block.tensors.items()}
    save_file(tensors, path, metadata={"about": about, "sha256": _checksum(tensors, about)})
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _read(path: Path) -> Block:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    about = metadata["about"]
    if _checksum(tensors, about) != metadata["sha256"]:
        raise ValueError(f"{path} has another checksum than it says")
    return Block(tensors=tensors, about=json.loads(about))


def _checksum(tensors: Mapping[str, Tensor], about: str) -> str:
    found = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
