"""LAMB: Adam's direction, scaled to the length of the weights that it moves (You et al. 2019,
arXiv:1904.00962), for batches of tens of thousands. EVA-CLIP was trained with it.

For each tensor w of weights, with Adam's moments m and v of its gradient:

    u = m / (sqrt(v) + eps) + weight_decay * w        the direction
    w = w - lr * |w| / |u| * u                        the trust ratio is |w| / |u|

so that no tensor moves by more than about `lr` of its own length in a step.
"""

# The list-wise kernels, of which torch's own optimisers are made, have no public names.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.config import OptimConfig
from diptych.distributed import local, squared_norms
from diptych.optim.skip import kept_where, skip_of


@dataclass(frozen=True, kw_only=True)
class LambVariant:
    """In what published implementations differ."""

    max_grad_norm: float
    """All gradients together are first scaled down to this norm, beside `optim.max_norm`."""
    adapts_all: bool
    """Whether tensors that don't decay have a trust ratio, too; if not, theirs is 1."""
    ratios: tuple[float, float]
    """Limits of the trust ratio."""
    corrects_rate: bool
    """Adam's moments are too small in the first steps. Whether that is corrected in the learning
    rate, or in the moments and so within the direction."""


NVLAMB = LambVariant(max_grad_norm=1.0, adapts_all=False, ratios=(0.0, inf), corrects_rate=False)
"""NVIDIA's for BERT, which apex, timm and EVA-CLIP's code without DeepSpeed have."""
DEEPSPEED = LambVariant(max_grad_norm=inf, adapts_all=True, ratios=(0.01, 10.0), corrects_rate=True)
"""DeepSpeed's fused one, with which EVA-CLIP's published commands run. There, under ZeRO, a tensor
was a process's slice of a parameter group, so its ratio depended on how many processes there were;
here it is a tensor of the model, whatever the number of processes."""


class Lamb(torch.optim.Optimizer):
    """LAMB over parameter groups, as `variant` has it. Sharded parameters (`DTensor`) are moved by
    the norms of whole tensors: at most two small all-reduces a step for each way of sharding, and
    no wait for the device.

    It keeps two moments for each weight, and within a step the direction. Where `found_inf` is set
    on it, and 1, as torch's loss scaling does, a step moves nothing, and nobody waits to know.

    >>> import torch
    >>> from diptych.optim.lamb import NVLAMB, Lamb
    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> group = {"params": [weight], "weight_decay": 1e-9}
    >>> optimizer = Lamb([group], lr=0.1, betas=(0.9, 0.98), eps=0.0, variant=NVLAMB)
    >>> weight.grad = torch.tensor([0.5, -0.5])
    >>> optimizer.step()  # by a tenth of its length, 5, in the direction (1, -1) / sqrt(2)
    >>> weight.data
    tensor([2.6464, 4.3536])
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        variant: LambVariant,
    ):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._variant = variant
        self._step_supports_amp_scaling = True  # torch's name for reading `found_inf`

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore
        """Move the weights that have a gradient."""
        assert closure is None, "gradients are there before the step"
        divisor, skip = self._divisor(), skip_of(self)
        moves = list[_Move]()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                moves.append(self._move(group, parameters, divisor, skip))
        self._adapt([move for move in moves if self._variant.adapts_all or move.decays])
        for move in moves:
            if move.corrections is not None:
                torch._foreach_mul_(move.steps, move.corrections.unbind())
            if skip is not None:
                move.steps[:] = [step.masked_fill_(skip, 0) for step in move.steps]
            torch._foreach_add_([local(p) for p in move.parameters], move.steps, alpha=-move.rate)

    def _divisor(self) -> Tensor | None:
        """What all gradients are divided by; None: by nothing."""
        if self._variant.max_grad_norm == inf:
            return None
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        gradients = [gradient for gradient in gradients if gradient is not None]
        squares = squared_norms([local(gradient) for gradient in gradients], like=gradients)
        return (squares.sum().sqrt() / self._variant.max_grad_norm).clamp(min=1)

    def _move(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        divisor: Tensor | None,
        skip: Tensor | None,
    ) -> "_Move":
        """The directions of a group; its moments take the gradients in."""
        (beta1, beta2), decay = group["betas"], group["weight_decay"]
        states = [self._state(parameter) for parameter in parameters]
        taken = [state["step"] for state in states]
        first = [local(state["exp_avg"]) for state in states]
        second = [local(state["exp_avg_sq"]) for state in states]
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        if divisor is not None:
            gradients = list(torch._foreach_div(gradients, divisor))
        torch._foreach_add_(taken, 1)
        remains: Any = beta2
        if skip is not None:
            torch._foreach_sub_(taken, [skip.to(taken[0].dtype)] * len(taken))
            gradients = kept_where(skip, first, gradients)
            remains = torch.where(skip, 1.0, beta2).to(second[0].dtype)
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        if skip is not None:
            gradients = [gradient.masked_fill_(skip, 0) for gradient in gradients]
        torch._foreach_mul_(second, remains)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        # Moments start at 0, and so are too small by these factors (Kingma and Ba 2014,
        # arXiv:1412.6980, section 3). Step counts stay on the device: to read them is to wait.
        steps = torch.stack(taken).double()
        small_first, small_root = 1 - beta1**steps, (1 - beta2**steps).sqrt()
        roots = list(torch._foreach_sqrt(second))
        if not self._variant.corrects_rate:
            torch._foreach_div_(roots, small_root.unbind())
        torch._foreach_add_(roots, group["eps"])
        directions = list(torch._foreach_div(first, roots))
        if not self._variant.corrects_rate:
            torch._foreach_div_(directions, small_first.unbind())
        if decay:
            torch._foreach_add_(directions, [local(p) for p in parameters], alpha=decay)
        corrections = small_root / small_first if self._variant.corrects_rate else None
        return _Move(parameters, directions, group["lr"], bool(decay), corrections)

    def _adapt(self, moves: "list[_Move]") -> None:
        """Scale directions by their trust ratios, in place."""
        if not moves:
            return
        parameters = [p for move in moves for p in move.parameters]
        steps = [step for move in moves for step in move.steps]
        parts = [local(p) for p in parameters] + steps
        weights, lengths = squared_norms(parts, like=parameters * 2).sqrt().chunk(2)
        ratios = (weights / lengths).clamp(*self._variant.ratios)
        # What is 0, as a layer that starts so, has no length to go by; and 0 / 0 isn't a number.
        ratios = torch.where((weights > 0) & (lengths > 0), ratios, 1.0)
        torch._foreach_mul_(steps, ratios.unbind())

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:  # named as AdamW's
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


class _Move(NamedTuple):
    """How the parameters of a group are moved: by minus `rate` times the steps."""

    parameters: list[Tensor]
    steps: list[Tensor]
    """This process's parts."""
    rate: float
    decays: bool
    corrections: Tensor | None
    """Of the rate, by tensor."""


def lamb(groups: list[dict[str, Any]], config: OptimConfig) -> Lamb:
    """`optim.name` lamb."""
    return Lamb(groups, lr=config.lr, betas=config.betas, eps=config.eps, variant=NVLAMB)


def lamb_deepspeed(groups: list[dict[str, Any]], config: OptimConfig) -> Lamb:
    """`optim.name` lamb-deepspeed."""
    return Lamb(groups, lr=config.lr, betas=config.betas, eps=config.eps, variant=DEEPSPEED)
