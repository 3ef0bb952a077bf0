"""SGD with Nesterov's momentum (Sutskever et al. 2013), whose first step may be one that is
skipped."""

from collections.abc import Callable
from typing import Any

import torch

from diptych.config import OptimConfig


class Sgd(torch.optim.SGD):
    """torch's, which makes room for momenta in its first step and leaves there what it found if
    that step is skipped, as float16's first ones often are; and which takes no weights without a
    momentum beside others that have one, as where a run goes on with layers that were frozen. Here
    a momentum begins as 0, of which the first step makes the gradient, as torch's does.

    >>> import torch
    >>> from diptych.optim.sgd import Sgd
    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = Sgd([weight], lr=0.1, momentum=0.9, nesterov=True)
    >>> weight.grad = torch.tensor([1.0, -1.0])
    >>> optimizer.step()
    >>> weight.data
    tensor([2.8100, 4.1900])
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore
        """Move the weights that have a gradient."""
        assert closure is None, "gradients are there before the step"
        for group in self.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        super().step()


def sgd(groups: list[dict[str, Any]], config: OptimConfig) -> Sgd:
    """`optim.name` sgd: one fused pass over the weights."""
    momentum, nesterov = config.momentum, config.momentum > 0
    return Sgd(groups, lr=config.lr, momentum=momentum, nesterov=nesterov, fused=True)
