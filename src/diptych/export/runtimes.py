"""What opens an exported program: one function a runtime."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import CheckpointError, ConfigError
from diptych.export.programs import others_warnings, said_of
from diptych.export.tower import Runtime
from diptych.threads import usable_cores

_KINDS = {"tensor(float)": torch.float32, "tensor(int32)": torch.int32}
"""What a tower is given, as ONNX Runtime calls it."""


def missing(package: str, extra: str = "export") -> ConfigError:
    """What to say where a package isn't installed."""
    return ConfigError(
        f"exported models need {package}, which is not installed: pip install 'diptych[{extra}]'"
    )


def open_onnx(path: Path) -> Runtime:
    """By ONNX Runtime, on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.log_severity_level = 3  # errors, which it raises, too
    try:
        session: Any = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        [given] = session.get_inputs()
        kind = _KINDS[given.type]
    except Exception as error:  # its classes have no common base of their own
        raise _unusable(path, "ONNX Runtime", error) from error

    def run(x: Tensor) -> Tensor:
        found = session.run(None, {given.name: x.to(kind).contiguous().numpy()})[0]
        return torch.from_numpy(found)

    return run


def open_openvino(path: Path) -> Runtime:
    """By OpenVINO, on the CPU, in float32 whatever the processor would be faster in."""
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "openvino") from error
    hints = {"INFERENCE_NUM_THREADS": _threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled: Any = openvino.Core().compile_model(str(path), "CPU", hints)
    except Exception as error:  # its own are plain RuntimeErrors
        raise _unusable(path, "OpenVINO", error) from error
    kind = torch.float32 if compiled.input(0).element_type == openvino.Type.f32 else torch.int32

    def run(x: Tensor) -> Tensor:
        found = compiled({0: x.to(kind).contiguous().numpy()})[0]
        return torch.from_numpy(found.copy())

    return run


def open_torch(path: Path) -> Runtime:
    """By torch: only for a file of our own, since `torch.export.load` evaluates expressions that it
    finds in the file, and may unpickle."""
    with others_warnings():
        module = torch.export.load(path).module()

    def run(x: Tensor) -> Tensor:
        return module(x if x.is_floating_point() else x.int())

    return run


def _threads() -> int:
    return min(torch.get_num_threads(), usable_cores())


def _unusable(path: Path, runtime: str, error: Exception) -> CheckpointError:
    side = "image" if path.stem == "image" or path.parent.name == "visual" else "text"
    return CheckpointError(f"{runtime} can't run the {side} tower, {path}: {said_of(error)}")
