"""What pictures and captions teach about themselves: the pure equations."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diptych.distributed import Peers
from diptych.objectives.features import at_least_float32, gather_with_gradient, unit

_ALONE = Peers()


def nt_xent(
    first: Float[Tensor, "n width"],
    second: Float[Tensor, "n width"],
    temperature: float,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """Of all views of all pictures, which is the other one of this picture? (NT-Xent, SimCLR, Chen
    et al. 2020, arXiv:2002.05709, equation 1.) Views needn't be of unit length.

    >>> import torch
    >>> from diptych.objectives.self_supervision import nt_xent
    >>> round(nt_xent(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)  # log(1 + 2 / e)
    0.5514
    """
    first, second = unit(first), unit(second)
    # Everybody's views are negatives. Keys: all first views by rank, then all second ones.
    keys = torch.cat([gather_with_gradient(first, peers), gather_with_gradient(second, peers)])
    n, everyone = len(first), len(first) * peers.size
    own = torch.arange(n, device=first.device) + peers.rank * n
    losses = []
    for view, itself, other in ((first, own, own + everyone), (second, own + everyone, own)):
        # A view's cosine with itself is 1, and no candidate: exp(-inf) takes it out of the sum.
        logits = (view @ keys.T / temperature).scatter(1, itself[:, None], -torch.inf)
        losses.append(F.cross_entropy(logits, other))
    return torch.stack(losses).mean()


def simsiam(
    predicted: tuple[Float[Tensor, "n width"], Float[Tensor, "n width"]],
    projected: tuple[Float[Tensor, "n width"], Float[Tensor, "n width"]],
) -> Float[Tensor, ""]:
    """Minus the cosine between what one view predicts and what the other is, behind a stop-gradient
    (SimSiam, Chen & He 2020, arXiv:2011.10566, equation 2).

    >>> import torch
    >>> from diptych.objectives.self_supervision import simsiam
    >>> simsiam((torch.eye(2), torch.eye(2)), (torch.eye(2), torch.eye(2)))
    tensor(-1.)
    """
    # There are no negatives: one vector for all pictures would be a minimum. The stop-gradient
    # (`detach`) keeps training from falling into it (arXiv:2011.10566, figure 2).
    targets = [at_least_float32(view.detach()) for view in projected]
    one = F.cosine_similarity(at_least_float32(predicted[0]), targets[1]).mean()
    other = F.cosine_similarity(at_least_float32(predicted[1]), targets[0]).mean()
    return -(one + other) / 2


def masked_language_modelling(
    logits: Float[Tensor, "masked vocabulary"],
    targets: Int[Tensor, " masked"],
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """Masked language modelling (MLM): the cross-entropy of the words that were masked in
    everybody's captions (BERT, Devlin et al. 2018, arXiv:1810.04805, §3.1); 0 where none was. Its
    mean over processes is the mean over all masked words.

    >>> import torch
    >>> from diptych.objectives.self_supervision import masked_language_modelling
    >>> masked_language_modelling(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    tensor(0.)
    """
    # Processes mask different numbers of words: a mean of means would weigh words unequally. The
    # sum over everybody's count, times `size`, becomes the mean when it is averaged over processes.
    count = peers.sum(torch.ones_like(targets).sum()).clamp(min=1)
    return F.cross_entropy(at_least_float32(logits), targets, reduction="sum") * peers.size / count


def nearest_neighbour_supervision(
    images: Float[Tensor, "n width"],
    neighbours: Float[Tensor, "n width"],
    scale: Tensor,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """Which of everybody's neighbours is that of this picture's own text? (DeCLIP, Li et al. 2021,
    arXiv:2110.05208, §3.3; from pictures to texts only.) Unit vectors; the neighbours stand behind
    a stop-gradient.

    >>> import torch
    >>> from diptych.objectives.self_supervision import nearest_neighbour_supervision
    >>> loss = nearest_neighbour_supervision(torch.eye(2), torch.eye(2), torch.tensor(1.0))
    >>> round(loss.item(), 4)  # log(1 + 1 / e)
    0.3133
    """
    # Neighbours are texts of past steps: no weight of this step made them, so none gets a gradient
    # through them, and a plain all-gather is enough.
    logits = scale * images @ peers.all_gather(neighbours.detach()).T
    own = torch.arange(len(images), device=images.device) + peers.rank * len(images)
    return F.cross_entropy(logits, own)
