"""Tensors from one process to another, without the rest of them."""

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor


def send_and_receive(
    sent: Sequence[tuple[int, Tensor]],
    received: Sequence[tuple[int, Tensor]],
    group: dist.ProcessGroup | None = None,
) -> None:
    """Point-to-point: give these tensors to these ranks, and fill those with what these ranks give,
    all at once. What two processes send each other arrives in the order in which it is sent."""
    work = [dist.P2POp(dist.isend, each.contiguous(), rank, group) for rank, each in sent]
    work += [dist.P2POp(dist.irecv, each, rank, group) for rank, each in received]
    for each in dist.batch_isend_irecv(work):
        each.wait()
