"""The pieces of one optimiser step that the loop names."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.distributed import Peers, whole
from diptych.errors import TrainingError
from diptych.nn.norm import batch_norms
from diptych.training.checkpoint import last_good

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
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return whole(norm)


def stop_if_not_finite(loss: Tensor, norm: Tensor, peers: Peers, step: int, out: Path) -> None:
    """Raise TrainingError on every process if the loss or the gradient's norm isn't a number on any
    of them. `out` is the run's folder."""
    # A sum is finite only if both are. All have to stop together: one process alone would leave the
    # others waiting in the next collective.
    if peers.any(not bool(torch.isfinite(loss + norm))):
        raise TrainingError(
            f"the loss or its gradient is not a number at step {step} (loss {float(loss):.4g}, "
            f"gradient norm {float(norm):.4g}); {last_good(out)}. "
            "Try a lower --optim.lr, a longer --optim.warmup, --optim.max-norm 1, "
            "or --precision bf16 in place of fp16"
        )
