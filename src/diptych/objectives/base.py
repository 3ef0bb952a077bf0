"""What every objective is: the owner of a model, a statement of the views it needs, and a loss."""

from typing import NamedTuple

from torch import Tensor, nn

from diptych.batch import Batch, Views
from diptych.distributed import Peers
from diptych.models import Clip

Features = dict[str, Tensor]
"""What the towers give for a batch: by name, batch first."""


class Losses(NamedTuple):
    """`total` is what is minimised: a scalar with gradient. `terms` are detached scalars for the record."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module):
    """A loss over a model. The only module that is wrapped (DDP) and the only one that the loop calls.

    The loss is split where a batch can be cut: `features` treats samples one by one, `loss` contrasts them. Gradient
    accumulation rests on it (Gao et al. 2021, arXiv:2101.06983): `objective(batch, peers)` gives the losses, and
    `objective(batch, peers, cotangents)` the sum of features times the given gradients, whose gradient is the chain
    rule's second half.
    """

    views = Views()

    def __init__(self, model: Clip):
        super().__init__()
        self.model = model

    def features(self, batch: Batch) -> Features:
        """What the loss needs of each pair."""
        raise NotImplementedError

    def loss(self, features: Features, peers: Peers) -> Losses:
        """The losses of the local rows against everybody's; their mean over processes is the batch's."""
        raise NotImplementedError

    def forward(self, batch: Batch, peers: Peers) -> Losses:
        """Losses of one batch."""
        return self.loss(self.features(batch), peers)

    def after_step(self) -> None:
        """Called after every optimiser step: clamps, queues, teachers."""
