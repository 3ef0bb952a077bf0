"""open_clip's loss of SigLIP: its arguments and its numbers, as `losses.pairs`."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.losses.pairs import Number, as_tensor, is_changed, peers_of
from diptych.errors import UnknownNameError
from diptych.objectives.features import gather_with_gradient
from diptych.objectives.sigmoid_loss import tiled_sigmoid_loss

_EXCHANGES = ("bidir", "shift", "reduce", "gather")


class SigLipLoss(nn.Module):
    """The pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343, equation 1), of the own
    pictures and everybody's texts. The texts are gathered, whatever `dist_impl` says, and logits
    never held whole, whatever `chunk_size`; these and `cache_labels` change no number. A subclass
    with logits, labels or a `_loss` of its own has them whole, of one process's texts at a time."""

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int = 0,
    ):
        super().__init__()
        if dist_impl and dist_impl not in _EXCHANGES:
            raise UnknownNameError("exchange of texts (dist_impl)", dist_impl, _EXCHANGES)
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl or "bidir"
        self.chunk_size = chunk_size

    def get_ground_truth(
        self,
        device: torch.device,
        dtype: torch.dtype,
        num_logits: int,
        negative_only: bool = False,
    ) -> Float[Tensor, "pairs pairs"]:
        """1 for each pair and -1 for all others; `negative_only`: nothing belongs together."""
        labels = torch.full((num_logits, num_logits), -1.0, device=device, dtype=dtype)
        return labels if negative_only else labels.fill_diagonal_(1.0)

    def get_logits(
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "others width"],
        logit_scale: Number,
        logit_bias: Number | None = None,
    ) -> Float[Tensor, "pairs others"]:
        """Logits of pictures for texts, whole, for a loss of one's own: this class itself never has
        them."""
        logits = logit_scale * image_features @ text_features.T
        return logits if logit_bias is None else logits + logit_bias

    def _loss(
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "others width"],
        logit_scale: Number,
        logit_bias: Number | None = None,
        negative_only: bool = False,
    ) -> Float[Tensor, ""]:
        """The part of one process's texts, which subclasses call or replace."""
        logits = self.get_logits(image_features, text_features, logit_scale, logit_bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        count, others = logits.shape
        labels = self.get_ground_truth(
            logits.device, logits.dtype, max(count, others), negative_only
        )
        # -log of the probability, sigmoid(+-logit), that each pair belongs together or doesn't.
        return -F.logsigmoid(labels[:count, :others] * logits).sum() / count

    def forward(
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "pairs width"],
        logit_scale: Number,
        logit_bias: Number | None = None,
        output_dict: bool = False,
    ) -> Any:
        """The loss of unit rows that belong together, divided by their number."""
        peers = peers_of(self.rank, self.world_size, image_features.device)
        if is_changed(self, SigLipLoss, "get_logits", "get_ground_truth", "_loss"):
            everyones = gather_with_gradient(text_features, peers).split(len(text_features))
            own = (logit_scale, logit_bias)
            parts = [
                self._loss(image_features, texts, *own, negative_only=rank != self.rank)
                for rank, texts in enumerate(everyones)
            ]
            loss = torch.stack(parts).sum()
        else:
            scale = as_tensor(logit_scale, image_features)
            bias = as_tensor(0.0 if logit_bias is None else logit_bias, image_features)
            loss = tiled_sigmoid_loss(image_features, text_features, scale, bias, peers=peers)
        return {"contrastive_loss": loss} if output_dict else loss
