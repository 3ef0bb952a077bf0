"""AdamW with moments of eight bits: a quarter of their memory (Dettmers et al. 2021,
arXiv:2110.02861), by torchao's kernels.

In each block of 256 numbers the largest is the scale, and each number is the nearest of 256 fixed
ones, dense around 0, times it. No block reaches beyond a row of its tensor (where rows aren't whole
blocks of 256, blocks are smaller): so a block is the same on one process and on many, each of which
has some of the rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from diptych.config import OptimConfig
from diptych.distributed import local, zeros_by_rows
from diptych.errors import ConfigError

BLOCKS, SMALL = (256, 128, 64), 4096
"""How many numbers share a scale, the first that divides a row, and how many a tensor has at least:
smaller ones, and those of other rows, keep moments in float32."""


class AdamW8bit(torch.optim.Optimizer):
    """AdamW over parameter groups, sharded (`DTensor`) or not. Its state is plain tensors: codes
    (uint8) of a weight's shape, and scales [rows, blocks of a row], sharded as the weight is.

    Moments only exist as float32 within the step of their tensor, which is compiled on a GPU, for
    all sizes of tensors together. Raises ConfigError without torchao.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
    ):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._low = _torchao()
        # `diptych plan` steps on tensors without numbers, which these can't be made of.
        with unset_fake_temporarily():
            self._numbers = {
                signed: self._low.create_dynamic_map(signed=signed) for signed in (True, False)
            }
        self._maps: dict[tuple[bool, torch.device], Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore
        """Move the weights that have a gradient."""
        assert closure is None, "gradients are there before the step"
        for group in self.param_groups:
            # As numbers they would be compiled for.
            rate, decay = torch.tensor(group["lr"]), torch.tensor(group["weight_decay"])
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group, rate, decay)

    def _move(
        self,
        parameter: Tensor,
        gradient: Tensor,
        group: dict[str, Any],
        rate: Tensor,
        decay: Tensor,
    ) -> None:
        state = self._state(parameter)
        state["step"] += 1
        weights = local(parameter.detach())
        if not weights.numel():  # fewer rows than processes
            return
        step = self._low.single_param_adam
        if parameter.device.type == "cuda":
            step = torch.compile(step, fullgraph=True, dynamic=True)
        flat = weights.reshape(-1)  # a copy where channels are last
        step(
            flat,
            local(gradient).reshape(-1),
            state["step"],
            self._moment(state, "exp_avg", signed=True),
            self._moment(state, "exp_avg_sq", signed=False),
            None,
            rate,
            *group["betas"],
            decay,
            group["eps"],
            True,  # decay apart from the gradient: AdamW
            False,
        )
        if not weights.is_contiguous():
            weights.copy_(flat.view(weights.shape))

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:  # named as AdamW's
            block = _block(parameter)
            state["step"] = torch.zeros((), device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq"):
                dtype = torch.uint8 if block else torch.float32
                state[name] = zeros_by_rows(parameter, parameter.shape[1:], dtype)
                if block:
                    count = parameter.shape[1:].numel() // block
                    state[f"{name}_scale"] = zeros_by_rows(parameter, (count,), torch.float32)
        return state

    def _moment(self, state: dict[str, Tensor], name: str, signed: bool) -> Tensor:
        """As torchao reads and writes it."""
        codes = local(state[name]).view(-1)
        if codes.dtype != torch.uint8:
            return codes
        numbers = self._maps.get((signed, codes.device))
        if numbers is None:
            numbers = torch.tensor(self._numbers[signed], device=codes.device)
            self._maps[signed, codes.device] = numbers
        scale = local(state[f"{name}_scale"]).view(-1)
        return self._low.OptimState8bit(codes, scale, numbers, signed, dtype=torch.float32)


def _block(parameter: Tensor) -> int:
    """How many of its numbers share a scale; 0: its moments stay in float32."""
    if parameter.numel() < SMALL:
        return 0
    row = parameter.shape[1:].numel()
    return next((block for block in BLOCKS if row % block == 0), 0)


def _torchao() -> Any:
    """Those of torchao's parts that are used."""
    from types import SimpleNamespace

    try:
        from torchao.optim.adam import single_param_adam
        from torchao.optim.quant_utils import create_dynamic_map
        from torchao.optim.subclass_8bit import OptimState8bit
    except ImportError as error:
        raise ConfigError(
            "--optim.name adamw-8bit needs torchao: `pip install 'diptych[low-bit]'`"
        ) from error
    return SimpleNamespace(
        single_param_adam=single_param_adam,
        create_dynamic_map=create_dynamic_map,
        OptimState8bit=OptimState8bit,
    )


def adamw_8bit(groups: list[dict[str, Any]], config: OptimConfig) -> AdamW8bit:
    """`optim.name` adamw-8bit."""
    return AdamW8bit(groups, lr=config.lr, betas=config.betas, eps=config.eps)
