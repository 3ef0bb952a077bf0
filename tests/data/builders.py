"""Small pictures and shards for the tests of this room."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image

from diptych.batch import Sample
from diptych.config import DataConfig


def picture(number: int, side: int = 16) -> bytes:
    """A grey JPEG whose level says which one it is."""
    return simplejpeg.encode_jpeg(np.full((side, side, 3), number % 250, np.uint8), quality=95)


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (number, 0, 0)).save(out, "PNG")
    return out.getvalue()


def samples(count: int, start: int = 0) -> list[Sample]:
    return [
        Sample(key=str(n), image=picture(n), captions=(f"picture {n}",), label=n % 3)
        for n in range(start, start + count)
    ]


def write_tar(path: Path, files: Mapping[str, bytes] | Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT):
    pairs = files.items() if isinstance(files, Mapping) else files
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def config(tmp_path: Path, path: object, **options) -> DataConfig:
    return DataConfig(path=str(path), cache=str(tmp_path / "cache"), **options)


def spell(texts: list[str]) -> torch.Tensor:
    """A tokenizer for tests: code points, padded with 0 to the longest."""
    rows = [torch.tensor([ord(letter) for letter in text]) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def read(ids: torch.Tensor) -> list[str]:
    """The inverse of `spell`."""
    return ["".join(map(chr, row[row > 0].tolist())) for row in ids]
