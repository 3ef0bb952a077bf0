"""Rows that go round the ring of processes, as one of open_clip's ways of computing its
`SigLipLoss` sends them; with gradients, which go back."""

from typing import Any

import torch
from torch import Tensor

from diptych.distributed import send_and_receive


def neighbour_exchange(from_rank: int, to_rank: int, tensor: Tensor, group: Any = None) -> Tensor:
    """Give a tensor to one process, and take another's, of the same shape; without gradient."""
    received = torch.empty_like(tensor)
    send_and_receive([(to_rank, tensor)], [(from_rank, received)], group)
    return received


def neighbour_exchange_bidir(
    left_rank: int,
    right_rank: int,
    tensor_to_left: Tensor,
    tensor_to_right: Tensor,
    group: Any = None,
) -> tuple[Tensor, Tensor]:
    """Both ways at once: what came from the right, and what came from the left; without
    gradient."""
    from_left, from_right = torch.empty_like(tensor_to_right), torch.empty_like(tensor_to_left)
    # Of two processes each is left and right of the other: what goes right comes from the left.
    send_and_receive(
        [(right_rank, tensor_to_right), (left_rank, tensor_to_left)],
        [(left_rank, from_left), (right_rank, from_right)],
        group,
    )
    return from_right, from_left


class NeighbourExchange(torch.autograd.Function):
    """`neighbour_exchange`, whose gradient goes the other way round."""

    @staticmethod
    def forward(ctx: Any, from_rank: int, to_rank: int, group: Any, tensor: Tensor) -> Tensor:
        """What `from_rank` sent."""
        ctx.place = (from_rank, to_rank, group)
        return neighbour_exchange(from_rank, to_rank, tensor, group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, None, None, Tensor]:
        """The gradient of what was sent, from where it went."""
        from_rank, to_rank, group = ctx.place
        (of_received,) = grad_outputs
        of_sent = neighbour_exchange_with_grad(to_rank, from_rank, of_received, group)
        return None, None, None, of_sent


def neighbour_exchange_with_grad(
    from_rank: int, to_rank: int, tensor: Tensor, group: Any = None
) -> Tensor:
    """`neighbour_exchange`, with gradient."""
    return NeighbourExchange.apply(from_rank, to_rank, group, tensor)


class NeighbourExchangeBidir(torch.autograd.Function):
    """`neighbour_exchange_bidir`, whose gradients go back."""

    @staticmethod
    def forward(
        ctx: Any, left_rank: int, right_rank: int, group: Any, to_left: Tensor, to_right: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What came from the right, and from the left."""
        ctx.place = (left_rank, right_rank, group)
        return neighbour_exchange_bidir(left_rank, right_rank, to_left, to_right, group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, None, None, Tensor, Tensor]:
        """The gradients of what was sent to the left and to the right."""
        left_rank, right_rank, group = ctx.place
        of_right, of_left = grad_outputs
        # Each goes back to where its rows came from; the neighbours' are those of what was sent.
        sent_right, sent_left = neighbour_exchange_bidir_with_grad(
            left_rank, right_rank, of_left, of_right, group
        )
        return None, None, None, sent_left, sent_right


def neighbour_exchange_bidir_with_grad(
    left_rank: int,
    right_rank: int,
    tensor_to_left: Tensor,
    tensor_to_right: Tensor,
    group: Any = None,
) -> tuple[Tensor, Tensor]:
    """`neighbour_exchange_bidir`, with gradient."""
    return NeighbourExchangeBidir.apply(
        left_rank, right_rank, group, tensor_to_left, tensor_to_right
    )
