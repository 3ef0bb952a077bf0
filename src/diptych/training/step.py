"""The pieces of one optimiser step that the loop names."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from diptych.distributed import whole
from diptych.nn.norm import batch_norms

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """A factory of the context in which the towers compute. Weights stay in float32: autocast
    converts them for each matrix product (Micikevicius et al. 2017, arXiv:1710.03740)."""
    return lambda: torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make all randomness of this step a function of (seed, step, rank), so that a resumed run
    repeats it."""
    # Distinct for all steps below 1,000,003 and ranks below 65,537 (both primes).
    torch.manual_seed(((seed * 1_000_003 + step) * 65_537 + rank) % 2**63)


def batch_statistics(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The running statistics of all batch norms, and copies of them: a forward pass changes them,
    before its step is taken or given up."""
    found = list[tuple[Tensor, Tensor]]()
    for norm in batch_norms(module):
        found += [(buffer, buffer.clone()) for buffer in norm.buffers(recurse=False)]
    return found


def clip_gradients(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients by one factor, so that their total norm is at most `max_norm` (0: leave
    them); the total norm before that, a scalar (Pascanu et al. 2012, arXiv:1211.5063)."""
    # One factor for all, not each value by itself: the direction of the step stays.
    gradients = [p.grad for p in parameters if p.grad is not None]
    # Whole before anything is added to it: torch 2.9 adds its 1e-6 to each process's part.
    norm = whole(torch.nn.utils.get_total_norm(gradients))
    if max_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def update(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, skip: Tensor) -> None:
    """The optimiser's step; where `skip` is 1 there is none, and weights and moments stay. An
    optimiser that can't skip without the host, who would have to wait to be asked, takes it: of
    such a step nothing is kept."""
    if scaler.is_enabled():  # skips what overflowed in float16, and with it all that isn't finite
        scaler.step(optimizer)
        scaler.update()
        return
    if _skips_on_device(optimizer, skip.device):
        vars(optimizer)["found_inf"] = skip  # where the scaler puts it
    try:
        optimizer.step()
    finally:
        vars(optimizer).pop("found_inf", None)


def _skips_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether it reads `found_inf`, as torch's fused ones do and ours, beside its weights."""
    reads = vars(optimizer).get("_step_supports_amp_scaling", False)
    groups = optimizer.param_groups
    return reads and all(p.device == device for group in groups for p in group["params"])
