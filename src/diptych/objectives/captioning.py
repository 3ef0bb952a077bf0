"""Captioning: how well each next token of a caption is foretold, in the memory of a few rows of
logits.

A vocabulary has tens of thousands of ids, so the logits of a batch, [tokens, vocabulary], are far
larger than what they are made of: 4 GB in float32 for 256 captions of 76 tokens. They are made a
tile of tokens at a time, and once more in the backward pass.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diptych.distributed import Peers
from diptych.objectives.features import at_least_float32

_ALONE = Peers()
Head = Callable[[Float[Tensor, "places width"]], Float[Tensor, "places vocabulary"]]


def token_losses(
    states: Float[Tensor, "places width"], ids: Int[Tensor, " places"], head: Head
) -> Float[Tensor, " places"]:
    """The cross entropy of each place's token: -log of the softmax of its logits, `head(states)`,
    at its id. The equation; only tests and small examples can afford it.

    >>> import torch
    >>> from diptych.objectives.captioning import token_losses
    >>> losses = token_losses(torch.zeros(1, 4), torch.tensor([2]), head=lambda states: states)
    >>> round(losses.item(), 4)  # log(4)
    1.3863
    """
    return F.cross_entropy(at_least_float32(head(states)), ids, reduction="none")


def tiled_token_losses(
    states: Float[Tensor, "places width"], ids: Int[Tensor, " places"], head: Head, tile: int = 1024
) -> Float[Tensor, " places"]:
    """`token_losses`, and its gradients, with the logits of `tile` places at a time."""
    return in_tiles(partial(token_losses, head=head), states, ids, tile)


def in_tiles(
    losses: Callable[[Tensor, Tensor], Tensor],
    states: Float[Tensor, "places width"],
    ids: Int[Tensor, " places"],
    tile: int,
) -> Float[Tensor, "places ..."]:
    """What `losses` gives of `tile` places at a time, of all places; what it computes is computed
    again in the backward pass."""
    parts = zip(states.split(tile), ids.split(tile), strict=True)
    found = [
        checkpoint(_of_tile, *part, losses, use_reentrant=False, preserve_rng_state=False)
        for part in parts
    ]
    return torch.cat(found)


def _of_tile(states: Tensor, ids: Tensor, losses: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    # With autocast's cache the gradients of all tiles would be added up in half precision, as those
    # of one copy of the head's weights. So each tile has its own.
    kind = states.device.type
    with torch.autocast(
        kind,
        torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=False,
    ):
        return losses(states, ids)


def captioning(
    losses: Float[Tensor, " captions"], tokens: Int[Tensor, " captions"], peers: Peers = _ALONE
) -> Float[Tensor, ""]:
    """The mean over everybody's tokens, of each caption's sum of `losses` and number of `tokens`.
    Its mean over processes is the mean over all tokens.

    open_clip takes each process's mean, and their mean: there a token counts more where captions
    are short.

    >>> import torch
    >>> from diptych.objectives.captioning import captioning
    >>> captioning(torch.tensor([6.0, 2.0]), torch.tensor([3, 1]))
    tensor(2.)
    """
    count = peers.sum(tokens.sum().to(losses.dtype)).clamp(min=1)
    return losses.sum() * peers.size / count
