"""Lion: steps of one size, in the direction of a moment's sign (Chen et al. 2023,
arXiv:2302.06675)."""

# The list-wise kernels, of which torch's own optimisers are made, have no public names.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable
from typing import Any

import torch

from diptych.config import OptimConfig
from diptych.distributed import local
from diptych.optim.skip import kept_where, skip_of


class Lion(torch.optim.Optimizer):
    """Lion over parameter groups, sharded (`DTensor`) or not: each weight moves by `lr`, up or
    down. It keeps one moment for each weight. `found_inf` is as `Lamb`'s.

    >>> import torch
    >>> from diptych.optim.lion import Lion
    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = Lion([{"params": [weight], "weight_decay": 0.0}], lr=0.1, betas=(0.9, 0.99))
    >>> weight.grad = torch.tensor([0.5, -7.0])
    >>> optimizer.step()
    >>> weight.data
    tensor([2.9000, 4.1000])
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self._step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore
        """Move the weights that have a gradient."""
        assert closure is None, "gradients are there before the step"
        skip = skip_of(self)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
            (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
            weights = [local(p) for p in parameters]
            moments = [local(self.state[p]["exp_avg"]) for p in parameters]
            gradients = [local(p.grad) for p in parameters]
            remains: Any = 1 - rate * decay
            if skip is not None:
                gradients = kept_where(skip, moments, gradients)
                remains = torch.where(skip, 1.0, remains).to(weights[0].dtype)
            # The direction looks further ahead (beta1) than what is remembered (beta2).
            signs = list(torch._foreach_lerp(moments, gradients, 1 - beta1))
            torch._foreach_sign_(signs)
            if skip is not None:
                signs = [sign.masked_fill_(skip, 0) for sign in signs]
            torch._foreach_lerp_(moments, gradients, 1 - beta2)
            if decay:
                torch._foreach_mul_(weights, remains)
            torch._foreach_add_(weights, signs, alpha=-rate)


def lion(groups: list[dict[str, Any]], config: OptimConfig) -> Lion:
    """`optim.name` lion."""
    return Lion(groups, lr=config.lr, betas=config.betas)
