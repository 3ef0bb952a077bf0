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
from diptych.inputs.tokenizer import Tokenizer, check_text


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


def write_tar(
    path: Path,
    files: Mapping[str, bytes] | Iterable[tuple[str, bytes]],
    format: int = tarfile.PAX_FORMAT,
):
    pairs = files.items() if isinstance(files, Mapping) else files
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def config(tmp_path: Path, path: object, **options) -> DataConfig:
    return DataConfig(path=str(path), cache=str(tmp_path / "cache"), **options)


class Spelling(Tokenizer):
    """A tokenizer for tests: code points."""

    context_length, vocab_size, pad_id, mask_id, special_ids = (
        40,
        128,
        0,
        ord("_"),
        frozenset({ord(" ")}),
    )

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in check_text(text)]

    def length(self, text: str) -> int:
        return len(text)

    def decode(self, ids) -> str:
        return "".join(map(chr, ids))

    def save(self, folder) -> None:
        pass


def read(ids: torch.Tensor) -> list[str]:
    """What `Spelling` encoded."""
    return ["".join(map(chr, row[row > 0].tolist())) for row in ids]
