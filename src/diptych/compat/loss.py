"""open_clip's losses, by their module's name."""

from diptych.compat.losses.captions import (
    CoCaLoss,
    GenLipLoss,
    caption_cross_entropy,
    fused_linear_cross_entropy,
)
from diptych.compat.losses.exchange import (
    NeighbourExchange,
    NeighbourExchangeBidir,
    neighbour_exchange,
    neighbour_exchange_bidir,
    neighbour_exchange_bidir_with_grad,
    neighbour_exchange_with_grad,
)
from diptych.compat.losses.pairs import ClipLoss, DistillClipLoss, gather_features
from diptych.compat.losses.sigmoid import SigLipLoss

__all__ = [
    "ClipLoss",
    "CoCaLoss",
    "DistillClipLoss",
    "GenLipLoss",
    "NeighbourExchange",
    "NeighbourExchangeBidir",
    "SigLipLoss",
    "caption_cross_entropy",
    "fused_linear_cross_entropy",
    "gather_features",
    "neighbour_exchange",
    "neighbour_exchange_bidir",
    "neighbour_exchange_bidir_with_grad",
    "neighbour_exchange_with_grad",
]
