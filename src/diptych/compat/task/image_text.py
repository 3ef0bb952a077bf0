"""The tasks of pictures and texts: InfoNCE, the sigmoid loss, and a teacher beside InfoNCE."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.faces.naflex import blank
from diptych.compat.loss import ClipLoss, DistillClipLoss, SigLipLoss
from diptych.compat.model_traits import unwrap_model
from diptych.compat.task.base_task import Losses, TrainingTask
from diptych.errors import ConfigError


class ImageTextTask(TrainingTask):
    """A model of pictures and texts that gives a dict (`output_dict=True`), and a loss of it."""

    @property
    def data_keys(self) -> Sequence[str]:
        """Pictures and texts."""
        return ("image", "text")

    def training_forward(self, batch: Mapping[str, Any]) -> tuple[Losses, dict[str, Tensor]]:
        """See `TrainingTask`; the report is the scale, and the bias of a model that has one. Raises
        ConfigError for a model that gives a tuple."""
        return self._lost(self.model_output(batch))

    def model_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What of a batch the model is told."""
        return {key: batch[key] for key in self.data_keys}

    def model_output(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the model gives of a batch, and what else the loss is told."""
        found = self.trainable_module(**self.model_inputs(batch))
        if not isinstance(found, dict):
            raise ConfigError("the model gives a tuple: create it with output_dict=True")
        return found

    def compute_accum_loss(
        self,
        inputs: Mapping[str, Tensor],
        inputs_no_accum: Mapping[str, Tensor],
        accum_batches: Sequence[Any],
    ) -> tuple[Losses, dict[str, Tensor]]:
        """The same of the rows of several batches, of which some are without gradient, and of what
        isn't of rows."""
        return self._lost({**inputs, **inputs_no_accum})

    def concat_accum_features(self, features: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """What the model gave of several batches, as if they were one."""
        return {name: torch.cat(list(parts)) for name, parts in features.items()}

    def create_dummy_batch(
        self,
        image_size: int | tuple[int, int] | None = None,
        context_length: int | None = None,
        batch_size: int = 1,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> dict[str, Any]:
        """Zeros of the model's size, or of another one; where there is a `naflex_data_config`,
        pictures of patches.

        >>> from diptych import compat
        >>> from diptych.compat.task import CLIPTask
        >>> task = CLIPTask(compat.create_model("tiny", load_weights=False))
        >>> task.create_dummy_batch()["image"].shape
        torch.Size([1, 3, 48, 48])
        """
        model = unwrap_model(self.trainable_module)
        length = context_length or model.context_length
        text = torch.zeros(batch_size, length, device=device, dtype=torch.long)
        if (config := self.naflex_data_config) is not None:
            shape = (batch_size, config.eval_seq_len, *config.eval_patch_shape)
            return {"image": blank(shape, device, dtype), "text": text}
        size = image_size or model.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        pixels = torch.zeros(batch_size, 3, height, width, device=device, dtype=dtype)
        return {"image": pixels, "text": text}

    def _lost(self, output: Mapping[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        losses: Losses = self.loss(**output, output_dict=True)
        total = [each for name, each in losses.items() if name.endswith("_loss")]
        return {**losses, "loss": torch.stack(total).sum()}, self._report(output)

    @staticmethod
    def _report(output: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: output[name] for name in ("logit_scale", "logit_bias") if name in output}


class CLIPTask(ImageTextTask):
    """InfoNCE; the options are `ClipLoss`'s, unless a `loss` is given.

    >>> import torch
    >>> from diptych import compat
    >>> from diptych.compat.task import CLIPTask
    >>> model = compat.create_model("tiny", load_weights=False, output_dict=True)
    >>> task = CLIPTask(model).train()
    >>> losses, report = task(torch.rand(2, 3, 48, 48), torch.ones(2, model.context_length).long())
    >>> sorted(losses), list(report)
    (['contrastive_loss', 'loss'], ['logit_scale'])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: nn.Module | None = None,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = True,
        rank: int = 0,
        world_size: int = 1,
        **options: Any,
    ):
        super().__init__(model, **options)
        modes = (local_loss, gather_with_grad, cache_labels, rank, world_size)
        self.loss = loss or ClipLoss(*modes)


class SigLIPTask(ImageTextTask):
    """The pairwise sigmoid loss; the options are `SigLipLoss`'s, unless a `loss` is given."""

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: nn.Module | None = None,
        cache_labels: bool = True,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        **options: Any,
    ):
        super().__init__(model, **options)
        self.loss = loss or SigLipLoss(cache_labels, rank, world_size, dist_impl)


class DistillCLIPTask(ImageTextTask):
    """InfoNCE, and how far the student's logits are from a teacher's, which stays as it is."""

    def __init__(
        self,
        student_model: nn.Module,
        teacher_model: nn.Module,
        *,
        loss: nn.Module | None = None,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = True,
        rank: int = 0,
        world_size: int = 1,
        **options: Any,
    ):
        super().__init__(student_model, **options)
        self.teacher = teacher_model.requires_grad_(False).eval()
        modes = (local_loss, gather_with_grad, cache_labels, rank, world_size)
        self.loss = loss or DistillClipLoss(*modes)

    def train(self, mode: bool = True) -> "DistillCLIPTask":
        """The student; the teacher only ever evaluates."""
        super().train(mode)
        self.teacher.eval()
        return self

    def model_output(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The student's, and the teacher's with `dist_` before the names."""
        found = super().model_output(batch)
        with torch.no_grad():
            said = self.teacher(**{key: batch[key] for key in self.data_keys})
        return found | {f"dist_{name}": value for name, value in said.items()}
