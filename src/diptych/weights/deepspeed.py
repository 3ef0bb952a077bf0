"""DeepSpeed's checkpoint folders. https://github.com/deepspeedai/DeepSpeed

    latest                                 the name of the newest step's folder, global_step…
    mp_rank_00_model_states.pt             the whole weights in 16 bits (ZeRO 0 to 2)
    zero_pp_rank_…_model_states.pt         ZeRO 3: shapes, buffers, a share of frozen parameters
    …zero_pp_rank_…_optim_states.pt        ZeRO 3: a share of the trained parameters in float32, one
                                           behind the other, in as many flat tensors as the
                                           optimiser had groups

ZeRO 3 (Rajbhandari et al. 2019, arXiv:1910.02054) cuts every parameter into equal shares, one for
each process; the last is padded.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.bounded import read_text
from diptych.errors import CheckpointError
from diptych.weights.mapped import Reopened
from diptych.weights.pickled import load, unwrapped
from diptych.weights.state import Lazy, State

_WHOLE, _SHARED = "mp_rank_00_model_states.pt", "zero_pp_rank_{}_mp_rank_00_model_states.pt"
_OPTIMIZERS = (
    "zero_pp_rank_{}_mp_rank_00_optim_states.pt",
    "bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt",
)
_SLICED = "*mp_rank_01_model_states.pt"
"""Tensor parallelism: the files hold slices of matrices."""


def weight_file(folder: Path) -> Path | None:
    """The file that stands for the weights of a checkpoint, or of a step's folder; None for other
    folders.

    Raises CheckpointError if `latest` leads nowhere, or if matrices are sliced over files.
    """
    if (folder / "latest").is_file():
        step = folder / Path(read_text(folder / "latest").strip()).name
        if not step.is_dir():
            raise CheckpointError(
                f"{folder / 'latest'} names {step.name}, which is missing; "
                "copy the whole checkpoint"
            )
        folder = step
    found = next(
        (folder / name for name in (_WHOLE, _SHARED.format(0)) if (folder / name).is_file()), None
    )
    if found and any(folder.glob(_SLICED)):
        raise CheckpointError(
            f"{folder} holds slices of matrices (tensor parallelism): merge them with DeepSpeed"
        )
    return found


def is_share(path: Path) -> bool:
    """Whether a file is one of ZeRO 3's, of which each process has one."""
    return re.fullmatch(_SHARED.format(r"\d+"), path.name) is not None


def read_shares(path: Path) -> State:
    """The whole weights out of ZeRO 3's files in the folder of `path`, merged one at a time.

    Raises CheckpointError if a process's file is missing, or if they don't fit together.
    """
    folder = path.parent
    try:
        return State(_merged(folder, load(_existing(folder, [_SHARED.format(0)]))))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} is not laid out as DeepSpeed's ZeRO 3 is ({error!r})"
        ) from error


def _merged(folder: Path, first: Mapping[str, Any]) -> dict[str, Lazy]:
    """`first`: the first process's model states."""
    processes = range(first["dp_world_size"])
    flat = [
        Reopened(partial(_trained, folder, process), files=len(processes)) for process in processes
    ]
    kept = [Reopened(partial(_frozen, folder, process)) for process in processes]
    merged = State.of(
        {n: first["module"][n] for n in first["buffer_names"] if n in first["module"]}
    ).lazies
    for name, shape in dict(first.get("frozen_param_shapes") or {}).items():
        (dtype,) = {share.take(0)[name].dtype for share in kept}
        merged[name] = _joined(shape, dtype, [partial(_named, share, name) for share in kept])
    start = 0
    for name, shape in itertools.chain(*(group.items() for group in first["param_shapes"])):
        # The last share of a parameter is padded, so all have this size.
        stop = start + math.ceil(shape.numel() / len(processes))
        merged[name] = _joined(
            shape, torch.float32, [partial(_cut, share, start, stop) for share in flat]
        )
        start = stop
    for process, share in enumerate(flat):
        if (size := sum(map(len, share.take(0)))) != start:
            raise CheckpointError(
                f"{folder}: process {process} holds {size} numbers where its share is {start}"
            )
    merged |= {
        alias: merged[name] for alias, name in dict(first.get("shared_params") or {}).items()
    }
    return {unwrapped(name): lazy for name, lazy in merged.items()}


def _joined(shape: torch.Size, dtype: torch.dtype, shares: Sequence[Callable[[], Tensor]]) -> Lazy:
    """All processes' shares of a parameter one behind the other, without the padding."""
    return Lazy(
        torch.empty(shape, dtype=dtype, device="meta"),
        lambda: torch.cat([share() for share in shares])[: shape.numel()].view(shape),
    )


def _named(share: Reopened[dict[str, Tensor]], name: str) -> Tensor:
    return share.take(0)[name]


def _cut(share: Reopened[list[Tensor]], start: int, stop: int) -> Tensor:
    """These numbers of the flat tensors, as if they were one."""
    parts = []
    for group in share.take(4 * (stop - start)):
        parts.append(group[max(start, 0) : max(stop, 0)])
        start, stop = start - len(group), stop - len(group)
    return torch.cat(parts)


def _trained(folder: Path, process: int) -> list[Tensor]:
    file = _existing(folder, [name.format(process) for name in _OPTIMIZERS])
    return load(file)["optimizer_state_dict"]["fp32_flat_groups"]


def _frozen(folder: Path, process: int) -> dict[str, Tensor]:
    return load(_existing(folder, [_SHARED.format(process)]))["frozen_param_fragments"]


def _existing(folder: Path, names: Sequence[str]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{folder} lacks {names[0]}; copy the files of all processes")
    return found
