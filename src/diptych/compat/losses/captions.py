"""open_clip's losses of captions: the cross entropy of each next token, beside that of pairs and
alone."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.losses.pairs import ClipLoss, Number
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs.masking import IGNORE_INDEX

_PRECISIONS = ("float32", "fp32", "model")


def caption_cross_entropy(
    logits: Float[Tensor, "*rows vocabulary"],
    target: Int[Tensor, "*rows"],
    ignore_index: int = IGNORE_INDEX,
    z_loss: bool = False,
    compute_dtype: Any = torch.float32,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
    """(cross entropy, z), means over the tokens that aren't `ignore_index`.

    z = mean (log sum_j exp logit_j)^2 keeps the logits of a token near a sum of probabilities of
    one (Chowdhery et al. 2022, arXiv:2204.02311, section 5); None without `z_loss`.
    `compute_dtype`: "float32" for logits in half precision, or "model", what they are in.

    >>> import torch
    >>> from diptych.compat.loss import caption_cross_entropy
    >>> ce, z = caption_cross_entropy(torch.zeros(2, 4), torch.tensor([1, -100]), z_loss=True)
    >>> round(ce.item(), 4), round(z.item(), 4)  # log 4, and its square
    (1.3863, 1.9218)
    """
    rows = _cast(logits.reshape(-1, logits.shape[-1]), _precision(compute_dtype))
    target = target.reshape(-1)
    counted = target != ignore_index
    # Of a batch without any token the sum is 0, and so is the mean.
    count = counted.sum().clamp(min=1)
    ce = F.cross_entropy(rows, target, ignore_index=ignore_index, reduction="sum") / count
    if not z_loss:
        return ce, None
    return ce, rows.logsumexp(-1).square().masked_fill(~counted, 0).sum() / count


class CoCaLoss(ClipLoss):
    """`ClipLoss`, and the cross entropy of the next tokens of captions (Yu et al. 2022,
    arXiv:2205.01917), each by its weight.

    Labels that are `pad_id` count for nothing, nor do those of -100; None: those alone.
    `z_loss_weight`, `compute_dtype`: see `caption_cross_entropy`. Raises ConfigError for a weight
    below 0.
    """

    def __init__(
        self,
        caption_loss_weight: float,
        clip_loss_weight: float,
        pad_id: int | None = 0,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
        z_loss_weight: float = 0.0,
        compute_dtype: Any = torch.float32,
    ):
        super().__init__(local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod)
        self.clip_loss_weight = clip_loss_weight
        self.caption_loss_weight = caption_loss_weight
        self.pad_id = pad_id
        self.z_loss_weight = _weight(z_loss_weight)
        self.compute_dtype = _precision(compute_dtype)
        self.caption_loss = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
        """What is computed where there is no z: it may be replaced."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "pairs width"],
        logits: Float[Tensor, "pairs length vocabulary"],
        labels: Int[Tensor, "pairs length"],
        logit_scale: Number,
        output_dict: bool = False,
    ) -> Any:
        """(contrastive loss, caption loss)."""
        contrastive = torch.tensor(0, device=logits.device)
        if self.clip_loss_weight:
            contrastive = self.clip_loss_weight * self.contrastive(
                image_features, text_features, logit_scale
            )
        caption = self._captions(logits, labels)
        if output_dict:
            return {"contrastive_loss": contrastive, "caption_loss": caption}
        return contrastive, caption

    def _captions(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.pad_id is not None:
            labels = labels.masked_fill(labels == self.pad_id, IGNORE_INDEX)
        if not self.z_loss_weight:
            rows = _cast(logits, self.compute_dtype).permute(0, 2, 1)
            return self.caption_loss_weight * self.caption_loss(rows, labels)
        ce, z = caption_cross_entropy(logits, labels, z_loss=True, compute_dtype=self.compute_dtype)
        assert z is not None
        return self.caption_loss_weight * ce + self.z_loss_weight * z


class GenLipLoss(nn.Module):
    """The cross entropy of the next tokens of captions alone, of models that compare nothing.

    >>> import torch
    >>> from diptych.compat.loss import GenLipLoss
    >>> loss = GenLipLoss()(torch.zeros(1, 2, 4), torch.tensor([[3, -100]]), output_dict=True)
    >>> {name: round(value.item(), 4) for name, value in loss.items()}
    {'caption_loss': 1.3863}
    """

    def __init__(
        self,
        ignore_index: int = IGNORE_INDEX,
        z_loss_weight: float = 0.0,
        compute_dtype: Any = torch.float32,
    ):
        super().__init__()
        self.ignore_index = ignore_index
        self.z_loss_weight = _weight(z_loss_weight)
        self.compute_dtype = _precision(compute_dtype)

    def forward(
        self,
        logits: Float[Tensor, "pairs length vocabulary"],
        labels: Int[Tensor, "pairs length"],
        output_dict: bool = False,
    ) -> Any:
        """The loss of logits of the next tokens and of these."""
        ce, z = caption_cross_entropy(
            logits, labels, self.ignore_index, bool(self.z_loss_weight), self.compute_dtype
        )
        loss = ce if z is None else ce + self.z_loss_weight * z
        return {"caption_loss": loss} if output_dict else loss


def _weight(given: float) -> float:
    if given < 0:
        raise ConfigError(f"z_loss_weight={given} must be 0 or more")
    return float(given)


def _precision(given: Any) -> torch.dtype | None:
    """The least that is computed in; None: what the logits are in."""
    if given is None or given == "model":
        return None
    if given is torch.float32 or given in _PRECISIONS:
        return torch.float32
    raise UnknownNameError("precision of the caption loss (compute_dtype)", str(given), _PRECISIONS)


def _cast(logits: Tensor, least: torch.dtype | None) -> Tensor:
    half = logits.dtype in (torch.float16, torch.bfloat16)
    return logits.to(least) if half and least is not None else logits
