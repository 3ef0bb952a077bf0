"""ViT-B/32's image tower, exported, on one core: images a second of each runtime and precision,
beside eager bfloat16 in ours. All in one run, in turn; the check is the least cosine with eager
float32.

Random weights and noise: eight bits are nearer on trained ones, or farther, so look at the cosines
of `diptych convert --int8 --pictures`."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import openvino
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.compare import Row, seconds
from benchmarks.towers import models
from diptych.export.kinds import KINDS
from diptych.export.programs import others_warnings, vectors_of
from diptych.models import Clip

BATCH = 16


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            yield from _rows(Path(folder))
    finally:
        torch.set_num_threads(threads)


def _rows(folder: Path) -> Iterator[Row]:
    ours, theirs = models()
    pixels = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    half = pixels.bfloat16()
    ways = _exported(ours, folder, pixels)
    wanted = ours.encode_image(pixels, normalize=True)
    ours_bf16, theirs_bf16 = (copy.deepcopy(each).bfloat16() for each in (ours, theirs))
    ways |= {
        "eager, fp32": partial(ours.encode_image, pixels, normalize=True),
        "open_clip, fp32": partial(theirs.encode_image, pixels, normalize=True),
        "open_clip, bf16": partial(theirs_bf16.encode_image, half, normalize=True),
    }
    eager = partial(ours_bf16.encode_image, half, normalize=True)
    base, *times = seconds(eager, *ways.values())
    for (name, way), taken in zip(ways.items(), times, strict=True):
        yield Row(
            name=f"image tower, one core, batch {BATCH}: {name} (beside eager bf16)",
            unit="images/s",
            ours=BATCH / taken,
            theirs=BATCH / base,
            higher_is_better=True,
            check=f"cosine {_cosine(way(), wanted):.6f}, eager bf16 {_cosine(eager(), wanted):.6f}",
        )


def _cosine(found: Tensor, wanted: Tensor) -> float:
    return cosine_similarity(found.float(), wanted.float()).min().item()


def _exported(model: Clip, folder: Path, pixels: Tensor) -> dict[str, Callable[[], Any]]:
    """What runs each program."""
    ways: dict[str, Callable[[], Any]] = {}
    for kind, int8 in (
        ("onnx", False),
        ("onnx", True),
        ("openvino", False),
        ("torch-export", True),
    ):
        path = folder / f"{int8}-{KINDS[kind].files['image']}"
        vectors = vectors_of(copy.deepcopy(model) if int8 else model, "image")
        KINDS[kind].write(vectors, model.config, "image", path, int8)
        run = KINDS[kind].open(path)
        ways[f"{kind}, {'int8' if int8 else 'fp32'}"] = partial(run, pixels)
    plain = folder / f"False-{KINDS['openvino'].files['image']}"
    hints = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "bf16"}
    compiled: Any = openvino.Core().compile_model(str(plain), "CPU", hints)
    ways["openvino, bf16"] = lambda: torch.from_numpy(compiled({0: pixels.numpy()})[0])
    with others_warnings():
        fast: Any = torch.compile(vectors_of(model, "image"))
    ways["torch.compile, fp32"] = partial(fast, pixels)
    return ways
