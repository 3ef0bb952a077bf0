"""A step of a training loop over a task: its gradients, also of several batches together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.open_clip_train.naflex_data import get_naflex_loss_scale
from diptych.compat.open_clip_train.precision import get_autocast
from diptych.compat.open_clip_train.utils import backward
from diptych.compat.task.base_task import Losses, TrainingTask
from diptych.compat.task.image_text import ImageTextTask
from diptych.errors import ConfigError

_NUMBERS = ("logit_scale", "logit_bias")
"""What a model gives that isn't of the rows of a batch."""


class LossTask(ImageTextTask):
    """A model, a loss and perhaps a teacher, as open_clip 3.3's loop takes them: pictures and texts
    go into the model by position, and all losses are summed."""

    def __init__(self, model: nn.Module, loss: nn.Module, teacher: nn.Module | None):
        super().__init__(model)
        self.loss = loss
        self._teachers = () if teacher is None else (teacher,)  # no part of what is trained

    def model_output(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's, and the teacher's with `dist_` before the names."""
        rows = [batch[key] for key in self.data_keys]
        found: dict[str, Tensor] = dict(self.trainable_module(*rows))
        for teacher in self._teachers:
            with torch.no_grad():
                said: dict[str, Tensor] = teacher(*rows)
            found |= {f"dist_{name}": value for name, value in said.items()}
        return found

    def train(self, mode: bool = True) -> "LossTask":
        """The model; a teacher only ever evaluates."""
        super().train(mode)
        for teacher in self._teachers:
            teacher.eval()
        return self

    def _lost(self, output: Mapping[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        losses: Losses = self.loss(**output, output_dict=True)
        total = torch.stack(list(losses.values())).sum()
        return {**losses, "loss": total}, self._report(output)


@dataclass
class Step:
    """The gradients of a step, and the step."""

    task: TrainingTask
    scaler: Any
    args: Any

    def __post_init__(self):
        self.autocast = get_autocast(self.args.precision, torch.device(self.args.device).type)

    def gradients(self, batches: Sequence[Mapping[str, Any]]) -> tuple[Losses, Losses]:
        """Backward through the loss of all batches together; gives the losses and the report.
        Raises ConfigError for several batches of a task that isn't of pictures and texts."""
        task = self.task
        if len(batches) == 1:
            with self.autocast():
                losses, report = task(batches[0])
            backward(losses["loss"] * self._weight(batches[0]), self.scaler)
            return losses, report
        if not isinstance(task, ImageTextTask):
            raise ConfigError(f"{type(task).__name__} takes no batches together: set accum_freq 1")
        with torch.no_grad(), self.autocast():
            others = [task.model_output(batch) for batch in batches]
        losses, report = dict[str, Tensor](), dict[str, Tensor]()
        for place, batch in enumerate(batches):
            with self.autocast():
                here = task.model_output(batch)
                known = [*others[:place], here, *others[place + 1 :]]
                rows = [name for name in here if not name.endswith(_NUMBERS)]
                apart = {name: [each[name] for each in known] for name in rows}
                numbers = {name: here[name] for name in here if name.endswith(_NUMBERS)}
                if place < len(batches) - 1:
                    # Each pass is the loss of all rows: in only one of them the scale may count.
                    # DDP wants its gradient all the same.
                    numbers = {name: x.detach() + 0 * x for name, x in numbers.items()}
                joined = task.concat_accum_features(apart)
                losses, report = task.compute_accum_loss(joined, numbers, batches)
            backward(losses["loss"] * self._weight(batch), self.scaler)
        return losses, report

    def _weight(self, batch: Mapping[str, Any]) -> float:
        """Of the gradient, by how many pictures of their own aspect a batch has."""
        return get_naflex_loss_scale(batch, self.args, self.task)

    def take(self, optimizer: Any) -> None:
        """Clip the gradients, take the step, and keep the scale in its bounds."""
        if self.args.grad_clip_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            parameters = self.task.trainable_module.parameters()
            nn.utils.clip_grad_norm_(parameters, self.args.grad_clip_norm)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
        self.task.clamp_logit_scale()
