"""What a model can be exported to: how each kind of program is written, and what runs it."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from diptych.config import ClipConfig
from diptych.config.model import Side
from diptych.durable import by_library
from diptych.errors import CheckpointError, ConfigError
from diptych.export.onnx_file import quantise, write_onnx
from diptych.export.programs import others_warnings, program, said_of
from diptych.export.runtimes import missing, open_onnx, open_openvino, open_torch
from diptych.export.tower import Runtime


@dataclass(frozen=True)
class Kind:
    """One way to export a tower."""

    files: dict[Side, str]
    """Where each tower's program lies in the folder."""
    write: Callable[[nn.Module, ClipConfig, Side, Path, bool], None]
    """Write the program of unit vectors (`programs.vectors_of`) to a path; the last argument:
    whether in eight bits."""
    open: Callable[[Path], Runtime]
    safe: bool = True
    """Whether `open` may be given a stranger's file."""


def _onnx(vectors: nn.Module, config: ClipConfig, side: Side, path: Path, int8: bool) -> None:
    made = program(vectors, config, side)
    if not int8:
        write_onnx(made, path, side)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as room:
        plain = Path(room, path.name)
        write_onnx(made, plain, side)
        quantise(plain, path, side)


def _openvino(vectors: nn.Module, config: ClipConfig, side: Side, path: Path, int8: bool) -> None:
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "openvino") from error
    if int8:
        raise ConfigError(
            "--int8 is for onnx, immich and torch-export; OpenVINO's own quantisation (NNCF) isn't "
            "among what Diptych runs"
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as room:
        plain = Path(room, f"{side}.onnx")
        write_onnx(program(vectors, config, side), plain, side)
        try:
            converted = openvino.convert_model(plain)
        except RuntimeError as error:
            raise CheckpointError(
                f"OpenVINO can't hold the {side} tower: {said_of(error)}"
            ) from error
        with by_library(path):
            openvino.save_model(converted, path, compress_to_fp16=False)


def _torch(vectors: nn.Module, config: ClipConfig, side: Side, path: Path, int8: bool) -> None:
    if int8:
        _in_eight_bits(vectors)
    made: ExportedProgram = program(vectors, config, side)
    file = io.BytesIO()  # on a full disk torch's own writer ends the process
    with others_warnings():
        torch.export.save(made, file)
    path.write_bytes(file.getbuffer())


def _in_eight_bits(vectors: nn.Module) -> None:
    """Weights and activations of the linear layers, in place, as they come (torchao)."""
    try:
        with others_warnings():
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
            from torchao.utils import unwrap_tensor_subclass
    except ImportError as error:
        raise missing("torchao", "low-bit") from error
    with others_warnings():
        how: Any = Int8DynamicActivationInt8WeightConfig()
        quantize_(vectors, how)
        unwrap_tensor_subclass(vectors)  # to plain tensors: the file needs no torchao, no pickle


def _named(image: str, text: str) -> dict[Side, str]:
    return {"image": image, "text": text}


KINDS: dict[str, Kind] = {
    "onnx": Kind(_named("image.onnx", "text.onnx"), _onnx, open_onnx),
    "torch-export": Kind(_named("image.pt2", "text.pt2"), _torch, open_torch, safe=False),
    "openvino": Kind(_named("image.xml", "text.xml"), _openvino, open_openvino),
    "immich": Kind(_named("visual/model.onnx", "textual/model.onnx"), _onnx, open_onnx),
}
"""By the name after `diptych convert --to`."""
