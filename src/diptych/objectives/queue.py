"""Texts of the past, among which a text finds its nearest (DeCLIP, Li et al. 2021,
arXiv:2110.05208, §3.3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Queue(nn.Module):
    """The last `size` unit vectors, first in, first out; random ones at first. Buffers: on the
    device, in checkpoints.

    >>> import torch
    >>> from diptych.objectives.queue import Queue
    >>> queue = Queue(size=3, width=2)
    >>> queue.push(torch.eye(2))
    >>> queue.nearest(torch.tensor([[0.1, 0.9]]))
    tensor([[0., 1.]])
    """

    rows: Tensor
    """[size, width]"""
    place: Tensor
    """Where the next row goes; scalar."""

    def __init__(self, size: int, width: int, drop_rest: bool = False):
        super().__init__()
        self.drop_rest = drop_rest
        self.register_buffer("rows", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def nearest(self, texts: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """For each unit vector the remembered one of the highest cosine."""
        return F.normalize(
            self.rows[(texts.to(self.rows.dtype) @ self.rows.T).argmax(dim=1)], dim=1
        )

    @torch.no_grad()
    def push(self, texts: Float[Tensor, "n width"]) -> None:
        """Remember these in place of the oldest. With `drop_rest`, what doesn't fit before the end
        is dropped, and the next push begins at the start: as DeCLIP published it."""
        size, start = len(self.rows), int(self.place)
        if self.drop_rest:
            texts = texts[: size - start]
        places = torch.arange(start, start + len(texts), device=self.rows.device) % size
        self.rows[places] = texts.to(self.rows.dtype)
        self.place.fill_((start + len(texts)) % size)
