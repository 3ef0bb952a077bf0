"""The task of models that only write captions (GenLIP, Fang et al. 2026, arXiv:2605.00809).

https://github.com/mlfoundations/open_clip, src/open_clip/task/genlip_task.py
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.losses.captions import GenLipLoss, weight
from diptych.compat.model_traits import unwrap_model
from diptych.compat.task.base_task import Losses
from diptych.compat.task.image_text import ImageTextTask
from diptych.errors import ConfigError
from diptych.inputs.masking import IGNORE_INDEX


class GenLipTask(ImageTextTask):
    """The cross entropy of each next word of captions, behind a picture's patches.

    The model computes it itself, in little memory; with `fused_loss=False`, or a `loss` of logits
    and labels, it gives logits. `default_loss=False`: then there is no loss, for evaluation alone.
    `caption_…`: of z, of the precision, and of the rows of logits that are held at a time.

    >>> import torch
    >>> from diptych.compat.naflex_genlip_model import GenLip
    >>> from diptych.compat.task import GenLipTask
    >>> trunk = {"width": 16, "depth": 1, "num_heads": 2, "intermediate_size": 24}
    >>> trunk |= {"text_embed_dim": 8, "mrope_section": (0, 2, 2)}
    >>> text = {"vocab_size": 9, "context_length": 5, "pad_id": 8}
    >>> task = GenLipTask(GenLip(16, {"image_size": 32}, text, trunk)).train()
    >>> losses, report = task({"image": torch.rand(2, 3, 32, 32), "text": torch.ones(2, 5).long()})
    >>> sorted(losses), report
    (['caption_loss', 'caption_loss_ce', 'loss'], {})
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: nn.Module | None = None,
        fused_loss: bool = True,
        default_loss: bool = True,
        caption_z_loss_weight: float = 0.0,
        caption_loss_compute_dtype: Any = "float32",
        caption_loss_chunk_size: int | None = 4096,
        **options: Any,
    ):
        super().__init__(model, **options)
        self.pad_id: int = unwrap_model(model).pad_id
        self.caption_z_loss_weight = weight(caption_z_loss_weight, "caption_z_loss_weight")
        self.caption_loss_compute_dtype = caption_loss_compute_dtype
        self.caption_loss_chunk_size = caption_loss_chunk_size or 4096
        self.fused_loss = fused_loss and loss is None
        if loss is None and default_loss and not fused_loss:
            loss = GenLipLoss(
                z_loss_weight=caption_z_loss_weight, compute_dtype=caption_loss_compute_dtype
            )
        if loss is not None:
            self.loss = loss

    def training_forward(self, batch: Mapping[str, Any]) -> tuple[Losses, dict[str, Tensor]]:
        """See `TrainingTask`; the report is empty: such a model has no scale."""
        return self._loss_forward(self.trainable_module, batch), {}

    def eval_forward(self, batch: Mapping[str, Any]) -> Losses:
        """The losses of a batch, with averaged weights where there are some."""
        return self._loss_forward(self.get_trainable_module(use_ema=True), batch)

    def clamp_logit_scale(self, max_val: float = 0.0) -> None:
        """Nothing: there is no scale."""

    def create_dummy_batch(self, *sizes: Any, **options: Any) -> dict[str, Any]:
        """See `ImageTextTask`; all of a text counts."""
        batch = super().create_dummy_batch(*sizes, **options)
        return batch | {"text_valid": torch.ones_like(batch["text"], dtype=torch.bool)}

    def _loss_forward(self, module: nn.Module, batch: Mapping[str, Any]) -> Losses:
        given = {"image": batch["image"], "text": batch["text"]}
        given["text_valid"] = batch.get("text_valid")
        return self._fused(module, given) if self.fused_loss else self._of_logits(module, given)

    def _fused(self, module: nn.Module, given: dict[str, Any]) -> Losses:
        found = module(
            **given,
            compute_loss=True,
            caption_z_loss=self.caption_z_loss_weight != 0,
            caption_loss_compute_dtype=self.caption_loss_compute_dtype,
            caption_loss_chunk_size=self.caption_loss_chunk_size,
        )
        loss: Tensor = found["caption_loss_ce"]
        parts = {"caption_loss_ce": loss.detach()}
        if self.caption_z_loss_weight:
            if "caption_loss_z" not in found:
                raise ConfigError(
                    f"caption_z_loss_weight={self.caption_z_loss_weight} needs caption_loss_z of "
                    "the model, which it doesn't give"
                )
            parts["caption_loss_z"] = found["caption_loss_z"].detach()
            loss = loss + self.caption_z_loss_weight * found["caption_loss_z"]
        return {"caption_loss": loss, "loss": loss} | parts

    def _of_logits(self, module: nn.Module, given: dict[str, Any]) -> Losses:
        text, said = given["text"], given["text_valid"]
        valid = text != self.pad_id if said is None else said.bool()
        found = module(**given, compute_loss=False)
        # The place before a word tells it: the last patch the first.
        logits = found["logits"][:, found["image_seq_len"] - 1 : -1]
        losses: Losses = self.loss(logits, text.masked_fill(~valid, IGNORE_INDEX), output_dict=True)
        total = [each for name, each in losses.items() if name.endswith("_loss")]
        return {**losses, "loss": torch.stack(total).sum()}
