"""Programs as ONNX files, and with matrix products in eight bits."""

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.export import ExportedProgram

from diptych.config.model import Side
from diptych.errors import CheckpointError
from diptych.export.programs import INPUTS, OUTPUT, others_warnings, said_of
from diptych.export.runtimes import missing

_OPERATOR = re.compile(r"<OpOverload\(op='([\w.]+)'")
_LARGE = 3 << 29
"""Bytes of weights: a file of more than 2 GB is none that ONNX's format can hold."""


def write_onnx(program: ExportedProgram, path: Path, side: Side) -> None:
    """The program as a file, with its tensors beside it (`….data`) where they are too large for
    one. Raises CheckpointError, naming tower and operator, for what ONNX can't express."""
    if find_spec("onnxscript") is None:  # torch asks for it in the middle of its work
        raise missing("onnx and onnxscript")
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    try:
        with others_warnings(), _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=True,
                input_names=[INPUTS[side]],
                output_names=[OUTPUT],
            )
            assert made is not None
            made.save(path, external_data=size > _LARGE)
    except OSError:
        raise
    except Exception as error:  # whatever its steps raise
        found = _OPERATOR.search(_all_said(error))
        what = f"it has no operator for {found[1]}" if found else said_of(error)
        raise CheckpointError(f"ONNX can't hold the {side} tower: {what}") from error


def quantise(plain: Path, path: Path, side: Side) -> None:
    """Write the file `plain` with its matrix products in eight bits: weights by the column,
    activations as they come (ONNX Runtime's dynamic quantisation). Raises CheckpointError where
    there are none."""
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise missing("onnx and onnxruntime") from error
    # The shapes in between are inferred anew: those of torch 2.9 are of weights before they were
    # transposed.
    model = onnx.load(plain, load_external_data=False)
    model.graph.ClearField("value_info")
    onnx.save(model, plain)
    with others_warnings(), _quiet():
        quantize_dynamic(
            plain,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=plain.with_name(f"{plain.name}.data").exists(),
        )
    written = onnx.load(path, load_external_data=False)
    if not any(node.op_type == "MatMulInteger" for node in written.graph.node):
        raise CheckpointError(
            f"the {side} tower has no matrix products that could be in eight bits; leave --int8 out"
        )


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Without what others' loggers say of every file."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _all_said(error: BaseException | None) -> str:
    """An error's words and those of its causes."""
    said = list[str]()
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    return "\n".join(said)
