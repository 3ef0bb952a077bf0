"""Models larger than the device: blocks wait in main memory, or in the file that main memory maps,
and come one by one.

accelerate's hooks bring a block's weights to the device before its forward pass and let go of them
after it.
"""

import torch
from torch import nn

from diptych.errors import ConfigError
from diptych.models import Clip


def offload(model: Clip, device: torch.device, memory: str) -> None:
    """Puts `model`, which is on the CPU, on `device` as far as `memory` ("20GB") holds its weights,
    in place.

    What isn't a block always goes there, then the blocks in order. The others stay where they are;
    on the CPU, mapped weights cost no memory of their own. For inference alone. Raises ConfigError
    if even the rest doesn't fit, or without accelerate.
    """
    try:
        from accelerate import cpu_offload
        from accelerate.utils import convert_file_size_to_int
    except ImportError as error:
        raise ConfigError("memory= needs accelerate: `pip install 'diptych[offload]'`") from error
    try:
        room = convert_file_size_to_int(memory)
    except (ValueError, OverflowError) as error:  # infGB
        raise ConfigError(f"memory {memory!r} is no size; write 20GB or 800MB") from error
    blocks = [*model.image.blocks, *model.text.blocks]
    within = set(nn.ModuleList(blocks).parameters())
    room -= _bytes([p for p in model.parameters() if p not in within])
    if room < 0:
        raise ConfigError(
            f"memory {memory} is too little: what isn't in a block needs {-room / 1e9:.2f} GB more"
        )
    staying = set[nn.Module]()
    for block in blocks:
        room -= _bytes(list(block.parameters()))
        if room < 0:
            staying.add(block)
    # Before the rest moves: hooks leave blocks without numbers, and those must not be moved.
    for block in staying:
        cpu_offload(block, execution_device=device, preload_module_classes=[type(block).__name__])
    waiting = set(nn.ModuleList(staying).modules())
    for module in model.modules():
        if module not in waiting:
            _move(module, device)


def _move(module: nn.Module, device: torch.device) -> None:
    """The module's own tensors, not those of its parts."""
    for name, parameter in module.named_parameters(recurse=False):
        setattr(module, name, nn.Parameter(parameter.to(device), requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, buffer.to(device))


def _bytes(parameters: list[nn.Parameter]) -> int:
    return sum(p.nbytes for p in parameters)
