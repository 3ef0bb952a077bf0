"""EVA02-CLIP B/16 and L/14: pictures and texts through the towers, and loading. One file of weights
for both."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

from benchmarks.compare import Row, measured_apart, seconds
from benchmarks.towers import captions, throughput
from diptych.checkpoints import load_model
from diptych.inputs import build_tokenizer

MODELS = {"EVA02-B-16": "eva02-clip-b-16", "EVA02-L-14": "eva02-clip-l-14"}
"""open_clip's name -> ours."""
BATCHES = (1, 8)
TIME = (
    "import time\n{what}\nstart = time.perf_counter(); {load}; print(time.perf_counter() - start)"
)
MEMORY = (
    "import resource\n{what}\n{load}; "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
)
OURS = "from diptych.checkpoints import load_model", "load_model({path!r}, config={ours!r})"
THEIRS = "import open_clip", "open_clip.create_model({theirs!r}, pretrained={path!r})"


def rows() -> Iterator[Row]:
    for theirs, ours in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file(open_clip.create_model(theirs).state_dict(), path)
            yield from _loading(path, ours, theirs)
            yield from _towers(path, ours, theirs)


def _loading(path: Path, ours: str, theirs: str) -> Iterator[Row]:
    names = {"path": str(path), "ours": ours, "theirs": theirs}
    for title, unit, template in (("time", "s", TIME), ("peak memory", "MB", MEMORY)):
        codes = [
            template.format(what=what, load=load.format(**names)) for what, load in (OURS, THEIRS)
        ]
        mine, other = measured_apart(*codes, rounds=3)
        yield Row(name=f"{theirs}, loading, {title}", unit=unit, ours=mine, theirs=other)


def _towers(path: Path, ours: str, theirs: str) -> Iterator[Row]:
    mine = load_model(path, config=ours).model
    other: Any = open_clip.create_model(theirs, pretrained=str(path)).eval()
    tokenizer = build_tokenizer(mine.config.tokenizer, 77)
    for precision in ("fp32", "bf16"):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            for count in BATCHES:
                pixels, texts = torch.randn(count, 3, 224, 224), captions(count)
                short, long = tokenizer(texts), tokenizer(texts, pad_to=77)
                for side, one, two in (
                    (
                        "image",
                        partial(mine.encode_image, pixels),
                        partial(other.encode_image, pixels),
                    ),
                    ("text", partial(mine.encode_text, short), partial(other.encode_text, long)),
                ):
                    gap = (one() - two()).abs().max()
                    title = f"{theirs}, {side} tower, {precision}, batch {count}"
                    times = seconds(one, two)
                    yield throughput(title, count, times[0], times[1], f"{gap:.1e}")
