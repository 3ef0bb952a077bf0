"""Texts of the past, among which a text finds its nearest (DeCLIP, Li et al. 2021,
arXiv:2110.05208, §3.3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.distributed import Peers


class Queue(nn.Module):
    """The last `size` unit vectors, first in, first out; random ones at first. Buffers: on the
    device, in checkpoints. All processes remember the same.

    >>> import torch
    >>> from diptych.objectives.queue import Queue
    >>> queue = Queue(size=2, width=2)
    >>> queue.push(torch.eye(2))
    >>> queue.nearest(torch.tensor([[0.1, 0.9]]))
    tensor([[0., 1.]])
    """

    rows: Tensor
    """[size, width]"""
    place: Tensor
    """Where the next row goes; scalar."""

    def __init__(self, size: int, width: int):
        super().__init__()
        # Random unit vectors of many dimensions are nearly orthogonal to every text: they are
        # hardly ever the nearest once there are real ones, and need no count of what is filled.
        self.register_buffer("rows", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def nearest(self, texts: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """For each unit vector the remembered one of the highest cosine."""
        # Of unit vectors the dot product is the cosine.
        nearest = (texts.to(self.rows.dtype) @ self.rows.T).argmax(dim=1)
        return F.normalize(self.rows[nearest], dim=1)

    def collect(self, texts: Float[Tensor, "n width"], peers: Peers) -> Tensor:
        """What is to be pushed of everybody's new texts; here all of them, so that the queues of
        all processes stay the same and one is enough for a checkpoint."""
        return peers.all_gather(texts)

    @torch.no_grad()
    def push(self, texts: Float[Tensor, "n width"]) -> None:
        """Remember these in place of the oldest."""
        # A ring: behind the last row the first one is the oldest. Of more than there is room for,
        # the last ones stay: a GPU that is given two rows for a place keeps either of them.
        size, count = len(self.rows), len(texts)
        first = max(0, count - size)
        places = (self.place + torch.arange(first, count, device=self.rows.device)) % size
        self.rows[places] = texts[first:].to(self.rows.dtype)
        self.place.add_(count).remainder_(size)
