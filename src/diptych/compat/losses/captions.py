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
from diptych.objectives.captioning import in_tiles
from diptych.objectives.features import at_least_float32

_PRECISIONS = ("float32", "fp32", "model")


def caption_cross_entropy(
    logits: Float[Tensor, "*rows vocabulary"],
    target: Int[Tensor, "*rows"],
    ignore_index: int = IGNORE_INDEX,
    z_loss: bool = False,
    compute_dtype: Any = torch.float32,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
    """(cross entropy, z), means over the tokens that aren't `ignore_index`, at least in float32.

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
    losses = _of_tokens(rows, target.masked_fill(~counted, 0), z_loss)
    # Of a batch without any token the sum is 0, and so is the mean.
    return _apart(losses.masked_fill(~counted[:, None], 0).sum(0) / counted.sum().clamp(min=1))


def fused_linear_cross_entropy(
    hidden: Float[Tensor, "rows width"],
    weight: Float[Tensor, "vocabulary width"],
    target: Int[Tensor, " rows"],
    bias: Float[Tensor, " vocabulary"] | None = None,
    ignore_index: int = IGNORE_INDEX,
    chunk_size: int = 4096,
    reduction: str = "mean",
    z_loss: bool = False,
    compute_dtype: Any = torch.float32,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
    """`caption_cross_entropy` of the logits `hidden @ weight.T + bias`, of which only `chunk_size`
    rows are held at a time; `reduction`: "mean", or "sum". Raises ConfigError for another one, and
    for chunks of nothing.

    >>> import torch
    >>> from diptych.compat.loss import fused_linear_cross_entropy
    >>> target = torch.tensor([1, -100])
    >>> fused_linear_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3), target)
    (tensor(1.3863), None)
    """
    if reduction not in ("mean", "sum"):
        raise ConfigError(f"reduction={reduction!r}: mean or sum")
    if chunk_size <= 0:
        raise ConfigError(f"chunk_size={chunk_size} must be above 0")
    least = _precision(compute_dtype)

    def losses(states: Tensor, ids: Tensor) -> Tensor:
        return _of_tokens(_cast(F.linear(states, weight, bias), least), ids, z_loss)

    if hidden.is_meta:  # without numbers nothing is left out, and no memory is needed
        return _apart(losses(hidden, target).sum(0))
    counted = target != ignore_index
    sums = in_tiles(losses, hidden[counted], target[counted], chunk_size).sum(0)
    return _apart(sums / counted.sum().clamp(min=1) if reduction == "mean" else sums)


def caption_losses(
    hidden: Float[Tensor, "texts length width"],
    labels: Int[Tensor, "texts labels"],
    head: tuple[Tensor, Tensor | None],
    **options: Any,
) -> dict[str, Tensor]:
    """What a model gives of captions whose labels it is told: `caption_loss_ce`, and where asked
    for `caption_loss_z`. `head`: the vocabulary's matrix and bias; the options are
    `fused_linear_cross_entropy`'s."""
    states = hidden[:, : labels.shape[1]].flatten(0, 1)
    ce, z = fused_linear_cross_entropy(states, head[0], labels.flatten(), head[1], **options)
    return {"caption_loss_ce": ce} | ({} if z is None else {"caption_loss_z": z})


def _of_tokens(
    logits: Float[Tensor, "rows vocabulary"], ids: Int[Tensor, " rows"], z_loss: bool
) -> Float[Tensor, "rows losses"]:
    """The cross entropy of each token, and z beside it, at least in float32."""
    if not z_loss:
        return at_least_float32(F.cross_entropy(logits, ids, reduction="none"))[:, None]
    level = logits.logsumexp(-1)
    ce = at_least_float32(level - logits.gather(-1, ids[:, None])[:, 0])
    return torch.stack([ce, at_least_float32(level).square()], dim=-1)


def _apart(losses: Float[Tensor, " losses"]) -> tuple[Tensor, Tensor | None]:
    return losses[0], losses[1] if len(losses) > 1 else None


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
        self.z_loss_weight = weight(z_loss_weight)
        self.compute_dtype = _precision(compute_dtype)
        self.caption_loss = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
        """What is computed where there is no z: it may be replaced."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "pairs width"],
        logits: Float[Tensor, "pairs length vocabulary"] | None = None,
        labels: Int[Tensor, "pairs length"] | None = None,
        logit_scale: Number | None = None,
        output_dict: bool = False,
        caption_loss_ce: Float[Tensor, ""] | None = None,
        caption_loss_z: Float[Tensor, ""] | None = None,
        return_components: bool = False,
    ) -> Any:
        """(contrastive loss, caption loss): of logits and labels, or of what a model that was told
        the labels gives, `caption_loss_ce` and `caption_loss_z`. `return_components`: these two,
        without gradient, in the dictionary, too. Raises ConfigError where something is missing."""
        if logit_scale is None:
            raise ConfigError("CoCaLoss needs logit_scale, the factor on the similarities")
        contrastive = torch.tensor(0, device=image_features.device)
        if self.clip_loss_weight:
            contrastive = self.clip_loss_weight * self.contrastive(
                image_features, text_features, logit_scale
            )
        if caption_loss_ce is None:
            if logits is None or labels is None:
                raise ConfigError("CoCaLoss needs logits and labels, or caption_loss_ce")
            caption_loss_ce, caption_loss_z = self._captions(logits, labels)
        caption = self.caption_loss_weight * caption_loss_ce
        if self.z_loss_weight:
            if caption_loss_z is None:
                raise ConfigError(
                    f"z_loss_weight={self.z_loss_weight} needs caption_loss_z: call the model with "
                    "caption_z_loss=True"
                )
            caption = caption + self.z_loss_weight * caption_loss_z
        if not output_dict:
            return contrastive, caption
        parts = {"caption_loss_ce": caption_loss_ce, "caption_loss_z": caption_loss_z}
        said = {name: part.detach() for name, part in parts.items() if part is not None}
        losses = {"contrastive_loss": contrastive, "caption_loss": caption}
        return losses | (said if return_components else {})

    def _captions(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.pad_id is not None:
            labels = labels.masked_fill(labels == self.pad_id, IGNORE_INDEX)
        if self.z_loss_weight:
            return caption_cross_entropy(logits, labels, IGNORE_INDEX, True, self.compute_dtype)
        rows = _cast(logits, self.compute_dtype).permute(0, 2, 1)
        return at_least_float32(self.caption_loss(rows, labels)), None


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
        self.z_loss_weight = weight(z_loss_weight)
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


def weight(given: float, name: str = "z_loss_weight") -> float:
    """Of a part of a loss. Raises ConfigError below 0.

    >>> from diptych.compat.losses.captions import weight
    >>> weight(1)
    1.0
    """
    if given < 0:
        raise ConfigError(f"{name}={given} must be non-negative: 0 or more")
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
