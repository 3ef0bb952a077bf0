"""open_clip_train's loops over loaders of one's own: an epoch, and what is measured after it. The
first is open_clip 3.3's, of a model and a loss, the second main's, of a task.

    train_one_epoch(model, data, loss, epoch, optimizer, None, scheduler, None, args)
    train_one_epoch(TrainState(task, optimizer, scheduler=scheduler, epoch=epoch), data, args)

`args` has `device`, `precision`, `rank`, `world_size`, `accum_freq`, `grad_clip_norm`,
`skip_scheduler`, `log_every_n_steps`, `batch_size` and `distill`, as `params.parse_args` gives it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diptych.compat.loading.precision import get_input_dtype
from diptych.compat.loss import CoCaLoss
from diptych.compat.model import CLIP, CustomTextCLIP
from diptych.compat.model_traits import unwrap_model
from diptych.compat.open_clip_train.distributed import is_master
from diptych.compat.open_clip_train.evaluate import evaluate
from diptych.compat.open_clip_train.metrics import (
    get_clip_metrics,
    maybe_compute_generative_loss,
)
from diptych.compat.open_clip_train.naflex_data import get_naflex_loss_scale
from diptych.compat.open_clip_train.pairs import named
from diptych.compat.open_clip_train.precision import get_autocast
from diptych.compat.open_clip_train.scheduler import get_learning_rate
from diptych.compat.open_clip_train.state import TrainState, restore_train_state_counters
from diptych.compat.open_clip_train.steps import LossTask, Step
from diptych.compat.open_clip_train.tracking import track
from diptych.compat.open_clip_train.utils import (
    AverageMeter,
    backward,
    postprocess_clip_output,
)
from diptych.compat.open_clip_train.zero_shot import zero_shot_eval
from diptych.compat.task.base_task import Losses
from diptych.compat.task.coca_task import CoCaTask
from diptych.compat.task.image_text import ImageTextTask

__all__ = [
    "AverageMeter",
    "CLIP",
    "CustomTextCLIP",
    "TrainState",
    "backward",
    "evaluate",
    "get_autocast",
    "get_clip_metrics",
    "get_naflex_loss_scale",
    "maybe_compute_generative_loss",
    "postprocess_clip_output",
    "restore_train_state_counters",
    "train_one_epoch",
    "unwrap_model",
    "zero_shot_eval",
]


def train_one_epoch(model: Any, data: dict[str, Any], *rest: Any, **named: Any) -> None:
    """Take the steps of an epoch of `data["train"]`: of a TrainState (`data, args, tb_writer=None`;
    it counts them), or of a model, as `train_model`."""
    if isinstance(model, TrainState):
        train_state(model, data, *rest, **named)
    else:
        train_model(model, data, *rest, **named)


def train_model(
    model: nn.Module,
    data: dict[str, Any],
    loss: nn.Module,
    epoch: int,
    optimizer: Any,
    scaler: Any,
    scheduler: Callable[[int], Any] | None,
    dist_model: nn.Module | None,
    args: Any,
    tb_writer: Any = None,
) -> None:
    """`train_one_epoch` as open_clip 3.3 has it. The model and the teacher `dist_model` give dicts
    (`output_dict=True`)."""
    task = _task(model, loss, dist_model if args.distill else None)
    train_state(TrainState(task, optimizer, scaler, scheduler, epoch), data, args, tb_writer)


def _task(model: Any, loss: Any, teacher: Any) -> ImageTextTask:
    """Captions have labels and lengths, which their task knows how to put together; what isn't to
    be written is what the loss says."""
    if not isinstance(loss, CoCaLoss):
        return LossTask(model, loss, teacher)
    task = CoCaTask(model, loss=loss)
    task.pad_id = task.pad_id if loss.pad_id is None else loss.pad_id
    return task


def train_state(state: TrainState, data: dict[str, Any], args: Any, tb_writer: Any = None) -> None:
    """`train_one_epoch` as open_clip's main branch has it.

    With `args.accum_freq` batches a step, each is seen beside the vectors of all others, and the
    gradient is that of the batch that they are together, also of the scale.
    """
    task, device, dtype = state.task, torch.device(args.device), get_input_dtype(args.precision)
    step = Step(task, state.scaler, args)
    task.train()
    data["train"].set_epoch(state.epoch)
    loader = data["train"].dataloader
    steps = loader.num_batches // args.accum_freq
    gathered, log = list[dict[str, Any]](), _Log(args, tb_writer)
    for number, batch in enumerate(loader):
        gathered.append(task.prepare_batch(named(batch, task.data_keys), device, dtype))
        if len(gathered) < args.accum_freq:
            continue
        done = number // args.accum_freq
        if state.scheduler is not None and not args.skip_scheduler:
            state.scheduler(steps * state.epoch + done)
        state.optimizer.zero_grad()
        losses, report = step.gradients(gathered)
        step.take(state.optimizer)
        state.global_step = steps * state.epoch + done + 1
        state.samples_seen += sum(map(task.batch_size, gathered)) * args.world_size
        said = {"lr": get_learning_rate(state.optimizer)}
        if "logit_scale" in report:
            said["scale"] = report["logit_scale"].mean().item()
        log.step(losses, said, (state.epoch, done, steps))
        gathered = []


@dataclass
class _Log:
    """What is said of steps."""

    args: Any
    writer: Any
    means: dict[str, AverageMeter] = field(default_factory=dict[str, AverageMeter])
    since: float = field(default_factory=time.perf_counter)
    steps: int = 0

    def step(self, losses: Losses, said: dict[str, float], place: tuple[int, int, int]) -> None:
        """After a step: `place` is the epoch, the step within it, and how many it has."""
        self.steps += 1
        epoch, done, steps = place
        often = self.args.log_every_n_steps
        if not is_master(self.args) or (done % often and done + 1 != steps):
            return
        seconds = (time.perf_counter() - self.since) / self.steps
        pairs = self.args.batch_size * self.args.accum_freq * self.args.world_size
        for name, value in losses.items():
            self.means.setdefault(name, AverageMeter()).update(value.item())
        said |= {name: meter.val for name, meter in self.means.items()}
        said |= {"batch_time": seconds, "samples_per_second": pairs / seconds}
        lines = [f"{name}: {meter.val:.5g} ({meter.avg:.5g})" for name, meter in self.means.items()]
        logging.info(
            "Train Epoch: %d [%d/%d] Batch (t): %.3f, %.5g/s LR: %5f Logit Scale: %.3f %s",
            *(epoch, done + 1, steps, seconds, pairs / seconds, said["lr"], said.get("scale", 0.0)),
            " ".join(lines),
        )
        track(
            {f"train/{name}": each for name, each in said.items()},
            epoch * steps + done,
            self.args,
            self.writer,
        )
        self.since, self.steps = time.perf_counter(), 0
