"""Vectors on disk, so that no picture and no text goes through a tower twice.

    cache/
      images/KEY/00000000-00000512.safetensors    image features of these samples of a source,
                                                  and why some have none
      samples/KEY/00000000-00000512.safetensors   what the same samples say: keys, labels, captions
      texts/KEY/DIGEST.safetensors                vectors of texts, and the texts

A KEY is a digest of everything that its entries depend on: weights, precision and configuration;
how pictures are resized and texts are read; the files of the source, with sizes and times. An entry
appears whole or not at all and carries a checksum: one that doesn't fit is made again. So a kill
loses one entry at most, and any number of processes may write.
"""

import contextlib
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

from diptych.bounded import parse_json
from diptych.distributed import Peers
from diptych.durable import write_file
from diptych.errors import DataError


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """What one file of the cache holds."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Plain JSON."""


class Cache:
    """Entries by place ("images/KEY/00000000-00000512"), on disk; without a folder, in memory.

    >>> import tempfile, torch
    >>> from diptych.encoder import CacheEntry, Cache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = Cache(folder)
    ...     cache.write("images/a/0", CacheEntry(tensors={"rows": torch.arange(3)}))
    ...     cache.read("images/a/0").tensors["rows"].tolist(), cache.read("images/a/1")
    ([0, 1, 2], None)
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.folder = Path(folder).expanduser() if folder is not None else None
        self.corrupt: list[Path] = []
        """Files whose checksum didn't fit, and that were removed to be made again."""
        self._held: dict[str, CacheEntry] = {}

    def read(self, place: str) -> CacheEntry | None:
        """The entry, its tensors memory-mapped; None if there is none, or only a corrupt one."""
        if place in self._held or self.folder is None:
            return self._held.get(place)
        path = self._path(place)
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            self.corrupt.append(path)
            with contextlib.suppress(OSError):  # of a disk that is read-only; writing it says so
                path.unlink(missing_ok=True)
            return None

    def write(self, place: str, entry: CacheEntry, *, lasting: bool = True) -> None:
        """Keep the entry; one that isn't `lasting` only in memory. Raises DataError if the disk
        won't take it."""
        if self.folder is None or not lasting:
            self._held[place] = entry
            return
        try:
            write_file(self._path(place), partial(_write, entry))
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"the cache in {self.folder} can't be written ({error}); "
                "make room, or choose another --cache"
            ) from error

    def places(self, kind: str) -> list[str]:
        """The places of the entries below `kind` ("texts/KEY"), sorted."""
        held = [place for place in self._held if place.startswith(f"{kind}/")]
        found = (self.folder / kind).glob("*.safetensors") if self.folder is not None else ()
        return sorted({*held, *(f"{kind}/{path.stem}" for path in found)})

    def share(self, places: list[str], peers: Peers) -> None:
        """Return when every process has the entries at `places` that any of them wrote; all of them
        call it."""
        held = peers.all_gather_objects(
            {place: self._held[place] for place in places if place in self._held}
        )
        for entries in held:
            self._held |= entries

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


def _write(entry: CacheEntry, path: Path) -> None:
    about = json.dumps(dict(entry.about))
    tensors = {name: tensor.contiguous() for name, tensor in entry.tensors.items()}
    save_file(tensors, path, metadata={"about": about, "sha256": _checksum(tensors, about)})


def _read(path: Path) -> CacheEntry:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    about = metadata["about"]
    if _checksum(tensors, about) != metadata["sha256"]:
        raise ValueError(f"{path} has another checksum than it says")
    return CacheEntry(tensors=tensors, about=parse_json(about))


def _checksum(tensors: Mapping[str, Tensor], about: str) -> str:
    found = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
