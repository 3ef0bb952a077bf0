"""A moving average of the weights, which is what is evaluated and exported."""

# The list-wise operations have no public names.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import torch
from torch import Tensor, nn

from diptych.distributed import local


class Average:
    """An exponential moving average of a module's trained parameters (Polyak & Juditsky 1992), or
    of this process's shards of them: no second module.

    >>> import torch
    >>> from torch import nn
    >>> from diptych.training.average import Average
    >>> layer = nn.Linear(1, 1)
    >>> average = Average(layer, decay=0.5)
    >>> for weight in (2.0, 4.0):
    ...     _ = nn.init.constant_(layer.weight, weight)
    ...     average.update()
    >>> average.state()["weight"].item(), layer.weight.item()
    (3.0, 4.0)
    >>> average.swap()
    >>> average.state()["weight"].item(), layer.weight.item()
    (4.0, 3.0)
    """

    def __init__(self, module: nn.Module, decay: float):
        self._module, self._decay = module, decay
        self._started = False
        trained = (p for p in module.parameters() if p.requires_grad)
        self._tensors: dict[Tensor, Tensor] = {p: p.detach().clone() for p in trained}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now. The first ones are the average."""
        averages = [local(tensor) for tensor in self._tensors.values()]
        weights = [local(parameter) for parameter in self._tensors]
        if self._started:
            torch._foreach_lerp_(averages, weights, 1 - self._decay)
        else:
            torch._foreach_copy_(averages, weights)
        self._started = True

    def state(self) -> dict[str, Tensor]:
        """The module's `state_dict` with the averages in place of the weights. They share their
        memory with the average: what is filled in there goes on from here."""
        found: dict[str, Tensor] = self._module.state_dict(keep_vars=True)
        return {name: self._tensors.get(tensor, tensor) for name, tensor in found.items()}

    def go_on(self) -> None:
        """The average is what was written into `state()`."""
        self._started = True

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights and their averages."""
        for parameter, average in self._tensors.items():
            ours, theirs = local(parameter), local(average)
            kept = ours.clone()
            ours.copy_(theirs)
            theirs.copy_(kept)
