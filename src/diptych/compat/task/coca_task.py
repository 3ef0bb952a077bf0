"""The task of models that write captions: InfoNCE, and the cross entropy of each next token.

https://github.com/mlfoundations/open_clip, src/open_clip/task/coca_task.py
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from diptych.compat.loss import CoCaLoss
from diptych.compat.model_traits import Described, unwrap_model
from diptych.compat.task.base_task import Losses
from diptych.compat.task.image_text import ImageTextTask
from diptych.inputs.masking import IGNORE_INDEX


@runtime_checkable
class Padded(Protocol):
    """A model that says with what shorter texts are filled up."""

    @property
    def pad_id(self) -> int:
        """An id."""
        raise NotImplementedError


def pad_id_of(model: Any) -> int:
    """With what a model's shorter texts are filled up: 0 where it says nothing."""
    return model.pad_id if isinstance(model, Padded) else 0


class CoCaTask(ImageTextTask):
    """`CoCaLoss` of a model that gives `logits` for the tokens of each text (Yu et al. 2022,
    arXiv:2205.01917); the options are the loss's, unless a `loss` is given.

    The label of a place is the next token: of all tokens but padding, which is the model's `pad_id`
    (0 where it says none), or what a batch's `text_valid` [batch, length] says is none.

    >>> import torch
    >>> from diptych import compat
    >>> text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    >>> image = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}
    >>> model = compat.CoCa(
    ...     32,
    ...     multimodal_cfg=text,
    ...     text_cfg=text | {"embed_cls": True, "output_tokens": True},
    ...     vision_cfg=image | {"attentional_pool": True, "output_tokens": True},
    ... )
    >>> losses, report = compat.CoCaTask(model).train()(
    ...     torch.rand(2, 3, 32, 32), torch.ones(2, 8).long()
    ... )
    >>> sorted(losses), list(report)
    (['caption_loss', 'contrastive_loss', 'loss'], ['logit_scale'])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: nn.Module | None = None,
        caption_loss_weight: float = 2.0,
        clip_loss_weight: float = 1.0,
        caption_z_loss_weight: float = 0.0,
        caption_loss_compute_dtype: str = "float32",
        caption_loss_chunk_size: int | None = None,
        fused_caption_loss: bool = False,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = True,
        rank: int = 0,
        world_size: int = 1,
        default_loss: bool = True,
        **options: Any,
    ):
        """`default_loss`, `caption_loss_chunk_size` and `fused_caption_loss` have no meaning:
        logits are held whole, and the numbers are the same."""
        super().__init__(model, **options)
        self.pad_id = pad_id_of(unwrap_model(model))
        self.caption_z_loss_weight = caption_z_loss_weight
        self.caption_loss_compute_dtype = caption_loss_compute_dtype
        self.caption_loss_chunk_size = caption_loss_chunk_size
        self.loss = loss or CoCaLoss(
            caption_loss_weight,
            clip_loss_weight,
            pad_id=None,  # labels of padding are IGNORE_INDEX
            local_loss=local_loss,
            gather_with_grad=gather_with_grad,
            cache_labels=cache_labels,
            rank=rank,
            world_size=world_size,
            z_loss_weight=caption_z_loss_weight,
            compute_dtype=caption_loss_compute_dtype,
        )

    def model_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """See `ImageTextTask`; a model that hides padding by a mask gets the batch's."""
        bare, found = unwrap_model(self.trainable_module), super().model_inputs(batch)
        if "text_valid" in batch and isinstance(bare, Described):
            masks = {"text_valid": batch["text_valid"]} if bare.traits.consumes_text_mask else {}
            return found | masks
        return found

    def training_forward(self, batch: Mapping[str, Any]) -> tuple[Losses, dict[str, Tensor]]:
        """See `ImageTextTask`."""
        return self._of_batches(self.model_output(batch), [batch])

    def compute_accum_loss(
        self,
        inputs: Mapping[str, Tensor],
        inputs_no_accum: Mapping[str, Tensor],
        accum_batches: Sequence[Any],
    ) -> tuple[Losses, dict[str, Tensor]]:
        """See `ImageTextTask`; the labels are those of all batches."""
        return self._of_batches({**inputs, **inputs_no_accum}, accum_batches)

    def concat_accum_features(self, features: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """See `ImageTextTask`; logits of shorter texts are filled up."""
        apart = {name: parts for name, parts in features.items() if name != "labels"}
        logits = [row for part in apart.pop("logits", ()) for row in part]
        found = super().concat_accum_features(apart)
        return found | ({"logits": pad_sequence(logits, batch_first=True)} if logits else {})

    def caption_labels(self, batches: Sequence[Mapping[str, Any]]) -> Tensor:
        """The token behind each of the texts of some batches, [texts, length - 1]."""
        rows = list[Tensor]()
        for batch in batches:
            text, said = batch["text"], batch.get("text_valid")
            valid = text != self.pad_id if said is None else said.bool()
            rows += list(text[:, 1:].masked_fill(~valid[:, 1:], IGNORE_INDEX))
        return pad_sequence(rows, batch_first=True, padding_value=IGNORE_INDEX)

    def _of_batches(
        self, output: Mapping[str, Tensor], batches: Sequence[Mapping[str, Any]]
    ) -> tuple[Losses, dict[str, Tensor]]:
        labels = self.caption_labels(batches)
        # open_clip 3.3's CoCa gives none for the last token, which has no next one; main's does.
        given = {"labels": labels, "logits": output["logits"][:, : labels.shape[1]]}
        for name in ("image_features", "text_features", "logit_scale"):
            given[name] = output[name]
        losses, _ = self._lost(given)
        return losses, self._report(output)
