"""ViT-B/32's image tower, exported, on one core: images a second of each runtime and precision,
beside eager bfloat16 in ours. All in one run, in turn; the check is the least cosine with eager
float32. Beside what `diptych convert` writes: ONNX Runtime's static quantisation, whose ranges are
those of the pixels that are timed, in both of its formats; OpenVINO runs that, too, and bfloat16.

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
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
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
    ways["openvino, bf16"] = partial(_run_openvino, compiled, pixels)
    ways |= _static(folder / f"False-{KINDS['onnx'].files['image']}", pixels)
    with others_warnings():
        fast: Any = torch.compile(vectors_of(model, "image"))
    ways["torch.compile, fp32"] = partial(fast, pixels)
    return ways


def _static(plain: Path, pixels: Tensor) -> dict[str, Callable[[], Any]]:
    """Weights and activations in eight bits, with ranges that are known before: u8 times s8, which
    VNNI multiplies. The products of attention, of two activations, stay in float32."""
    ways: dict[str, Callable[[], Any]] = {}
    for name, how, by_channel in (
        ("QDQ, by the channel", QuantFormat.QDQ, True),
        ("QDQ", QuantFormat.QDQ, False),
        ("QOperator", QuantFormat.QOperator, False),
    ):
        path = plain.with_name(f"{len(ways)}.onnx")
        with others_warnings():
            quantize_static(
                plain,
                path,
                _Pixels(pixels),
                quant_format=how,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=by_channel,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        ways[f"onnx, int8, static {name}"] = partial(KINDS["onnx"].open(path), pixels)
        if how == QuantFormat.QDQ:
            hints = {"INFERENCE_NUM_THREADS": 1}
            compiled: Any = openvino.Core().compile_model(str(path), "CPU", hints)
            ways[f"openvino, int8, static {name}"] = partial(_run_openvino, compiled, pixels)
    return ways


def _run_openvino(compiled: Any, pixels: Tensor) -> Tensor:
    return torch.from_numpy(compiled({0: pixels.numpy()})[0])


class _Pixels(CalibrationDataReader):
    """What ranges are measured on, a picture at a time."""

    def __init__(self, pixels: Tensor):
        self._parts = iter(pixels.split(1))

    def get_next(self) -> dict[str, Any] | None:  # pyright: ignore (theirs says it never ends)
        part = next(self._parts, None)
        return None if part is None else {"image": part.numpy()}
