"""What all tasks have: a module that is trained, its average, its place in DDP, its state.

https://github.com/mlfoundations/open_clip, src/open_clip/task/base_task.py
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Losses = dict[str, Tensor]
MAX_SCALE = math.log(100)
"""Of the logarithm of the scale of similarities (Radford et al. 2021, arXiv:2103.00020 §2.5)."""


def unwrap_model(model: Any) -> Any:
    """The module within DDP and torch.compile, in whichever order."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
            continue
        # torch.compile's own class isn't asked for: that would import the compiler.
        inner = dict(model.named_children()) if isinstance(model, nn.Module) else {}
        if "_orig_mod" not in inner:
            return model
        model = inner["_orig_mod"]


def get_model_from_task(task_or_model: Any) -> Any:
    """The model of a task, or the model that was given, without what wraps it."""
    found = unwrap_model(task_or_model)
    return unwrap_model(found.trainable_module) if isinstance(found, TrainingTask) else found


class TrainingTask(nn.Module):
    """A module that is trained, and what a step of it is: `training_forward`.

    A call takes a batch as a mapping, as words, or in the order of `data_keys`. In training it
    gives `training_forward`'s losses and report, else what the model gives: with `setup_ema`, the
    model of averaged weights.
    """

    loss: nn.Module

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        verbose: bool = True,
    ):
        """`device`, `dtype`: of the batches that `prepare_batch` makes, unless it is told others.
        `verbose` has no meaning: a task says nothing."""
        super().__init__()
        self.trainable_module = model
        self.trainable_module_ema: Any = None
        """`.module`: the model of averaged weights; None without `setup_ema`."""
        self.device, self.dtype = device, dtype

    @property
    def data_keys(self) -> Sequence[str]:
        """What of a batch goes into the model."""
        raise NotImplementedError

    def training_forward(self, batch: Mapping[str, Any]) -> Any:
        """The losses of a batch, their sum as `loss`, and a report of what isn't summed."""
        raise NotImplementedError

    def forward(self, *parts: Any, **named: Any) -> Any:
        """See the class."""
        if len(parts) == 1 and isinstance(parts[0], Mapping):
            batch = {**parts[0], **named}
        else:
            # Those that aren't given by position have names.
            keys = self.data_keys[: len(parts)]
            batch = {**dict(zip(keys, parts, strict=True)), **named}
        if self.training:
            return self.training_forward(batch)
        return self.get_trainable_module()(**batch)

    def get_trainable_module(self, use_ema: bool = True) -> Any:
        """The model, or the one of averaged weights where there is one."""
        if use_ema and self.has_ema:
            return self.trainable_module_ema.module
        return unwrap_model(self.trainable_module)

    @property
    def has_ema(self) -> bool:
        """Whether weights are averaged."""
        return self.trainable_module_ema is not None

    def setup_ema(
        self, decay: float = 0.9999, device: torch.device | None = None
    ) -> "TrainingTask":
        """Average the weights from now on, beginning with these: at each `update_ema` the average
        is `decay` of itself and the rest of the weights."""
        average = AveragedModel(
            unwrap_model(self.trainable_module),
            device,
            multi_avg_fn=get_ema_multi_avg_fn(decay),
            use_buffers=True,
        )
        average.n_averaged += 1  # else the first update would copy
        self.trainable_module_ema = average.requires_grad_(False)
        return self

    def update_ema(self, step: int | None = None) -> None:
        """Take the weights into the average; without one, nothing."""
        if self.has_ema:
            self.trainable_module_ema.update_parameters(unwrap_model(self.trainable_module))

    def prepare_distributed(
        self, device_ids: list[Any] | None = None, **options: Any
    ) -> "TrainingTask":
        """Put the model into DDP, whose options these are."""
        self.trainable_module = DistributedDataParallel(
            self.trainable_module, device_ids=device_ids, **options
        )
        return self

    def prepare_batch(
        self,
        batch: Any,
        device: torch.device | None = None,
        input_dtype: torch.dtype | None = None,
    ) -> Any:
        """The batch on the device, its real numbers as `input_dtype` (None: as they are)."""
        device, dtype = device or self.device, input_dtype or self.dtype
        if isinstance(batch, Mapping):
            return {name: self.prepare_batch(each, device, dtype) for name, each in batch.items()}
        if not isinstance(batch, Tensor):
            return batch
        return batch.to(device, dtype if batch.is_floating_point() else None, non_blocking=True)

    def batch_size(self, batch: Mapping[str, Any]) -> int:
        """How many rows a batch has."""
        return len(batch[self.data_keys[0]])

    def clamp_logit_scale(self, max_val: float = MAX_SCALE) -> None:
        """Keep the logarithm of the model's scale in [0, max_val]."""
        with torch.no_grad():
            unwrap_model(self.trainable_module).logit_scale.clamp_(0, max_val)

    def state_dict(self, *_: Any, **__: Any) -> Any:
        """`state_dict`: the model's; `state_dict_ema`: the average's, where there is one."""
        found = {"state_dict": unwrap_model(self.trainable_module).state_dict()}
        if self.has_ema:
            found["state_dict_ema"] = self.trainable_module_ema.module.state_dict()
        return found

    def load_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> None:
        """Take what `state_dict` gave. A scale with or without a dimension of 1 fits both."""
        into = {"state_dict": unwrap_model(self.trainable_module)}
        if self.has_ema:
            into["state_dict_ema"] = self.trainable_module_ema.module
        for name, model in into.items():
            if name in state_dict:
                fitting = _scalars_fitted(model, state_dict[name])
                model.load_state_dict(fitting, strict=strict, assign=assign)

    def state_dict_for_inference(self) -> dict[str, Tensor]:
        """The average's tensors where there is one, else the model's."""
        return self.get_trainable_module().state_dict()


def _scalars_fitted(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Numbers in the shape that the model has them in: sharded ones have a dimension of 1."""
    own = dict(model.named_parameters())
    return {
        name: value.reshape(own[name].shape) if name in own and value.numel() == 1 else value
        for name, value in state.items()
    }
