"""What all tasks have: a module that is trained, its average, its place in DDP, its state.

https://github.com/mlfoundations/open_clip, src/open_clip/task/base_task.py
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from diptych.compat.model_traits import unwrap_model
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.task.batches import moved, rows_of
from diptych.compat.task.blocks import blocks_of
from diptych.compat.task.sharding import load_whole_state, shard, shard_config, whole_state
from diptych.distributed import local, met, whole
from diptych.errors import ConfigError

Losses = dict[str, Tensor]
Forward = Callable[[Mapping[str, Any]], Any]
MAX_SCALE = math.log(100)
"""Of the logarithm of the scale of similarities (Radford et al. 2021, arXiv:2103.00020 §2.5)."""


def get_model_from_task(task_or_model: Any) -> Any:
    """The model of a task, or the model that was given, without what wraps it."""
    found = unwrap_model(task_or_model)
    return unwrap_model(found.trainable_module) if isinstance(found, TrainingTask) else found


def measured_model(task_or_model: Any) -> Any:
    """The model that is measured: of a task whose weights are averaged, the one of averages."""
    found = unwrap_model(task_or_model)
    return found.get_trainable_module() if isinstance(found, TrainingTask) else found


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
        self.naflex_data_config: NaFlexDataConfig | None = None
        """How pictures of their own aspect are cut, where the model takes such."""
        self._decay = 0.0
        self._is_sharded = False
        self._compiled_training_forward: Forward | None = None
        self._compiled_eval_forward: Forward | None = None

    @property
    def data_keys(self) -> Sequence[str]:
        """What of a batch goes into the model."""
        raise NotImplementedError

    @property
    def primary_key(self) -> str:
        """What of a batch says how many rows it has."""
        return self.data_keys[0]

    @property
    def naflex_eval_config(self) -> tuple[tuple[int, int], int] | None:
        """Patch size and budget in evaluation; None: pictures are squares."""
        return None if self.naflex_data_config is None else self.naflex_data_config.eval_config

    def set_naflex_data_config(self, naflex_data_config: NaFlexDataConfig | None) -> "TrainingTask":
        """Say how pictures of their own aspect are cut."""
        self.naflex_data_config = naflex_data_config
        return self

    def training_forward(self, batch: Mapping[str, Any]) -> Any:
        """The losses of a batch, their sum as `loss`, and a report of what isn't summed."""
        raise NotImplementedError

    def eval_forward(self, batch: Mapping[str, Any]) -> Any:
        """What the model gives of a batch, with averaged weights where there are some."""
        model = self.trainable_module_ema.module if self.has_ema else self.trainable_module
        if isinstance(model, DistributedDataParallel):  # one process may evaluate by itself
            model = model.module
        return model(**batch)

    def forward(self, *parts: Any, **named: Any) -> Any:
        """See the class."""
        if len(parts) == 1 and isinstance(parts[0], Mapping):
            batch = {**parts[0], **named}
        else:
            # Those that aren't given by position have names.
            keys = self.data_keys[: len(parts)]
            batch = {**dict(zip(keys, parts, strict=True)), **named}
        if self.training:
            return (self._compiled_training_forward or self.training_forward)(batch)
        return (self._compiled_eval_forward or self.eval_forward)(batch)

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
        is `decay` of itself and the rest of the weights. Raises AssertionError, as open_clip does,
        where the weights are shards already."""
        if self._is_sharded:
            raise AssertionError("EMA must be set up before prepare_fsdp(): it holds whole weights")
        average = AveragedModel(unwrap_model(self.trainable_module), device)
        self.trainable_module_ema, self._decay = average.requires_grad_(False), decay
        return self

    @torch.no_grad()
    def update_ema(self, step: int | None = None) -> None:
        """Take the weights into the average; without one, nothing. Of shards, every process calls
        it."""
        if not self.has_ema:
            return
        model = unwrap_model(self.trainable_module)
        averages = _numbers(self.trainable_module_ema.module)
        for mean, now in zip(averages, _numbers(model), strict=True):
            value = whole(now).to(mean.device).reshape(mean.shape)
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - self._decay)
            else:
                mean.copy_(value)

    def prepare_distributed(
        self, device_ids: list[Any] | None = None, **options: Any
    ) -> "TrainingTask":
        """Put the model into DDP, whose options these are. Raises ConfigError where it is in shards
        already."""
        if self._is_sharded:
            raise ConfigError(
                "the model is in shards: prepare_fsdp or prepare_distributed, not both"
            )
        self.trainable_module = DistributedDataParallel(
            self.trainable_module, device_ids=device_ids, **options
        )
        return self

    def prepare_fsdp(
        self,
        mesh: Any = None,
        reshard_after_forward: bool = True,
        mp_policy: Any = None,
        offload_policy: Any = None,
        compile_blocks: bool = False,
        compile_kwargs: Mapping[str, Any] | None = None,
        grad_checkpointing: bool = False,
    ) -> "TrainingTask":
        """Leave each of the processes that have met a share of the weights (FSDP2), before an
        optimiser is made of them: of blocks, and of the rest, which is gathered as it is. Scales
        become tensors of one dimension. In one process alone nothing else changes.

        `reshard_after_forward`: blocks are gathered again in the backward pass. `mp_policy`: its
        `param_dtype` is that of the gathered blocks. `offload_policy`: shards wait in the CPU's
        memory. Batch statistics are taken over all processes. Raises ConfigError for a model in
        DDP, a mesh of other than all processes, and blocks in float16.
        """
        if isinstance(self.trainable_module, DistributedDataParallel):
            raise ConfigError("the model is in DDP: prepare_fsdp or prepare_distributed, not both")
        model = unwrap_model(self.trainable_module)
        size = met(torch.device("cpu")).size
        config = shard_config(reshard_after_forward, mp_policy, offload_policy, mesh, size)
        if grad_checkpointing:
            model.set_grad_checkpointing(True)
        if compile_blocks:
            self.compile(target="blocks", **(compile_kwargs or {}))
        shard(model, blocks_of(model), config)
        self._is_sharded = True
        return self

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        target: str = "task",
        compile_train: bool = True,
        compile_eval: bool = True,
        **options: Any,
    ) -> "TrainingTask":
        """Compile the steps of training and of evaluation (`task`), or the `model`, before it is in
        DDP, or each of its `blocks`. `options` are torch.compile's (`backend`, `mode`, ...); None
        is its own choice. Raises ConfigError for another target, and a model without blocks."""
        said = {name: value for name, value in options.items() if value is not None}
        if target == "model":
            self.trainable_module: Any = torch.compile(self.trainable_module, **said)
        elif target == "blocks":
            if not (blocks := blocks_of(unwrap_model(self.trainable_module))):
                raise ConfigError("nobody knows this model's blocks; choose target='model'")
            for block in blocks:
                block.compile(**said)
        elif target == "task":
            if compile_train:
                self._compiled_training_forward = torch.compile(self.training_forward, **said)
            if compile_eval:
                self._compiled_eval_forward = torch.compile(self.eval_forward, **said)
        else:
            raise ConfigError(f"compile(target={target!r}): choose task, model or blocks")
        return self

    def prepare_batch(
        self,
        batch: Any,
        device: torch.device | None = None,
        input_dtype: torch.dtype | None = None,
    ) -> Any:
        """The batch on the device, its real numbers as `input_dtype` (None: as they are)."""
        device, dtype = device or self.device, input_dtype or self.dtype
        return moved(batch, device, dtype)

    def batch_size(self, batch: Mapping[str, Any]) -> int:
        """How many rows a batch has."""
        return rows_of(batch[self.primary_key])

    @torch.no_grad()
    def clamp_logit_scale(self, max_val: float = MAX_SCALE) -> None:
        """Keep the logarithm of the model's scale in [0, max_val]."""
        local(unwrap_model(self.trainable_module).logit_scale).clamp_(0, max_val)

    def state_dict(self, *_: Any, **__: Any) -> Any:
        """`state_dict`: the model's; `state_dict_ema`: the average's, where there is one. Tensors
        are whole: of shards, every process calls it."""
        model = unwrap_model(self.trainable_module)
        found = {"state_dict": whole_state(model) if self._is_sharded else model.state_dict()}
        if self.has_ema:
            found["state_dict_ema"] = self.trainable_module_ema.module.state_dict()
        return found

    def load_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> None:
        """Take what `state_dict` gave. A scale with or without a dimension of 1 fits both, as do
        names from within torch.compile."""
        into = {"state_dict": unwrap_model(self.trainable_module)}
        if self.has_ema:
            into["state_dict_ema"] = self.trainable_module_ema.module
        for name, model in into.items():
            if name not in state_dict:
                continue
            fitting = _fitted(model, state_dict[name])
            if self._is_sharded and name == "state_dict":
                load_whole_state(model, fitting, strict)
            else:
                model.load_state_dict(fitting, strict=strict, assign=assign)

    def state_dict_for_inference(self) -> dict[str, Tensor]:
        """The average's tensors where there is one, else the model's, whole."""
        said = self.state_dict()
        return said.get("state_dict_ema", said["state_dict"])


def _numbers(model: nn.Module) -> list[Tensor]:
    """Those that a file holds. A mask isn't averaged: -inf less itself is no number."""
    found = list[Tensor](model.parameters())
    for module in model.modules():
        made_anew: set[str] = vars(module)["_non_persistent_buffers_set"]
        buffers = module.named_buffers(recurse=False)
        found += [buffer for name, buffer in buffers if name not in made_anew]
    return found


def _fitted(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the model's names, and numbers in the shape that it has them in: sharded ones have a
    dimension of 1."""
    own, plain = dict(model.named_parameters()), _without_compile(state)
    return {
        name: value.reshape(own[name].shape) if name in own and value.numel() == 1 else value
        for name, value in plain.items()
    }


def _without_compile(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What torch.compile wraps is called `_orig_mod` in it: the model, or a block of it."""
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}
