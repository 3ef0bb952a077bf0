"""open_clip_train's loop over a model, a loss and loaders of one's own: an epoch, and what is
measured after it.

    train_one_epoch(model, data, loss, epoch, optimizer, None, scheduler, None, args)

`args` has `device`, `precision`, `rank`, `world_size`, `accum_freq`, `grad_clip_norm`,
`skip_scheduler`, `log_every_n_steps`, `batch_size` and `distill`, as `params.parse_args` gives it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.open_clip_train.distributed import is_master
from diptych.compat.open_clip_train.evaluate import evaluate
from diptych.compat.open_clip_train.metrics import (
    get_clip_metrics,
    maybe_compute_generative_loss,
)
from diptych.compat.open_clip_train.naflex_data import get_naflex_loss_scale
from diptych.compat.open_clip_train.pairs import columns
from diptych.compat.open_clip_train.precision import get_autocast
from diptych.compat.open_clip_train.tracking import track
from diptych.compat.precision import get_input_dtype
from diptych.compat.task.base_task import MAX_SCALE, Losses, unwrap_model

__all__ = [
    "AverageMeter",
    "backward",
    "evaluate",
    "get_clip_metrics",
    "get_naflex_loss_scale",
    "maybe_compute_generative_loss",
    "postprocess_clip_output",
    "train_one_epoch",
    "unwrap_model",
]

_NUMBERS = ("logit_scale", "logit_bias")
"""What a model gives that isn't of the rows of a batch."""
_Rows = tuple[Tensor, Tensor]


class AverageMeter:
    """The last of some numbers, and their mean.

    >>> from diptych.compat.open_clip_train.train import AverageMeter
    >>> meter = AverageMeter()
    >>> meter.update(2.0, n=3)
    >>> meter.update(6.0)
    >>> meter.val, meter.avg, meter.count
    (6.0, 3.0, 4)
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.val: float = 0
        self.avg: float = 0
        self.sum: float = 0
        self.count = 0

    def update(self, val: float, n: int = 1) -> None:
        """Take a number that stands for `n`."""
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def postprocess_clip_output(model_out: Sequence[Tensor]) -> dict[str, Tensor]:
    """The first three of what a model gives as a tuple, by name: a bias is left out, as InfoNCE has
    none."""
    names = ("image_features", "text_features", "logit_scale")
    return dict(zip(names, model_out[:3], strict=True))


def backward(total_loss: Tensor, scaler: Any) -> None:
    """The gradients of a loss; `scaler`: torch's `GradScaler`, or None."""
    (total_loss if scaler is None else scaler.scale(total_loss)).backward()


def train_one_epoch(
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
    """Take the steps of an epoch of `data["train"]`. The model and the teacher `dist_model` give
    dicts (`output_dict=True`).

    With `args.accum_freq` batches a step, each is seen beside the vectors of all others, and the
    gradient is that of the batch that they are together, also of the scale.
    """
    device = torch.device(args.device)
    step = _Step(model, loss, dist_model if args.distill else None, scaler, args)
    model.train()
    data["train"].set_epoch(epoch)
    loader = data["train"].dataloader
    steps = loader.num_batches // args.accum_freq
    dtype, gathered, log = get_input_dtype(args.precision), list[_Rows](), _Log(args, tb_writer)
    for number, batch in enumerate(loader):
        images, texts = columns(batch)
        gathered.append((images.to(device, dtype, non_blocking=True), texts.to(device)))
        if len(gathered) < args.accum_freq:
            continue
        done = number // args.accum_freq
        if scheduler is not None and not args.skip_scheduler:
            scheduler(steps * epoch + done)
        optimizer.zero_grad()
        losses = step.gradients(gathered)
        step.take(optimizer)
        scale = unwrap_model(model).logit_scale
        with torch.no_grad():
            scale.clamp_(0, MAX_SCALE)
        rate = optimizer.param_groups[0]["lr"]
        log.step(losses, {"lr": rate, "scale": scale.exp().item()}, (epoch, done, steps))
        gathered = []


@dataclass
class _Step:
    """The gradients of a step, and the step."""

    model: nn.Module
    loss: nn.Module
    teacher: nn.Module | None
    scaler: Any
    args: Any

    def __post_init__(self):
        self.autocast = get_autocast(self.args.precision, torch.device(self.args.device).type)
        if self.teacher is not None:
            self.teacher.eval()

    def gradients(self, batches: Sequence[_Rows]) -> Losses:
        """Backward through the loss of all batches together; gives the losses."""
        if len(batches) == 1:
            with self.autocast():
                losses = self._losses(self._output(*batches[0]))
            backward(losses["loss"], self.scaler)
            return losses
        with torch.no_grad(), self.autocast():
            others = [self._output(*rows) for rows in batches]
        losses: Losses = {}
        for place, rows in enumerate(batches):
            with self.autocast():
                here = self._output(*rows)
                known = [*others[:place], here, *others[place + 1 :]]
                joined = {
                    name: torch.cat([each[name] for each in known])
                    for name in here
                    if not name.endswith(_NUMBERS)
                }
                numbers = {name: here[name] for name in here if name.endswith(_NUMBERS)}
                if place < len(batches) - 1:
                    # Each pass is the loss of all rows: in only one of them the scale may count.
                    # DDP wants its gradient all the same.
                    numbers = {name: x.detach() + 0 * x for name, x in numbers.items()}
                losses = self._losses(joined | numbers)
            backward(losses["loss"], self.scaler)
        return losses

    def take(self, optimizer: Any) -> None:
        """Clip the gradients, and take the step."""
        if self.args.grad_clip_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.args.grad_clip_norm)
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def _output(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.model(images, texts)
        if self.teacher is None:
            return found
        with torch.no_grad():
            said: dict[str, Tensor] = self.teacher(images, texts)
        return found | {f"dist_{name}": value for name, value in said.items()}

    def _losses(self, output: dict[str, Tensor]) -> Losses:
        losses: Losses = self.loss(**output, output_dict=True)
        return {**losses, "loss": torch.stack(list(losses.values())).sum()}


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
            *(epoch, done + 1, steps, seconds, pairs / seconds, said["lr"], said["scale"]),
            " ".join(lines),
        )
        track(
            {f"train/{name}": each for name, each in said.items()},
            epoch * steps + done,
            self.args,
            self.writer,
        )
        self.since, self.steps = time.perf_counter(), 0
