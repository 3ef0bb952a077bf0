"""What pictures and captions teach about themselves: the pure equations."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from diptych.distributed import Peers

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
    >>> from diptych.objectives.selfsup import nt_xent
    >>> round(nt_xent(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)  # log(1 + 2 / e)
    0.5514
    """
    first, second = F.normalize(wide(first), dim=1), F.normalize(wide(second), dim=1)
    keys = torch.cat([gather(first, peers), gather(second, peers)])
    n, everyone = len(first), len(first) * peers.size
    own = torch.arange(n, device=first.device) + peers.rank * n
    losses = []
    for view, itself, other in ((first, own, own + everyone), (second, own + everyone, own)):
        logits = (view @ keys.T / temperature).scatter(1, itself[:, None], -torch.inf)
        losses.append(F.cross_entropy(logits, other))
    return torch.stack(losses).mean()


def simsiam(
    foretold: tuple[Float[Tensor, "n width"], Float[Tensor, "n width"]],
    seen: tuple[Float[Tensor, "n width"], Float[Tensor, "n width"]],
) -> Float[Tensor, ""]:
    """Minus the cosine between what one view foretells and what the other is, which takes no
    gradient (SimSiam, Chen & He 2020, arXiv:2011.10566, equation 2).

    >>> import torch
    >>> from diptych.objectives.selfsup import simsiam
    >>> simsiam((torch.eye(2), torch.eye(2)), (torch.eye(2), torch.eye(2)))
    tensor(-1.)
    """
    one = F.cosine_similarity(wide(foretold[0]), wide(seen[1].detach())).mean()
    other = F.cosine_similarity(wide(foretold[1]), wide(seen[0].detach())).mean()
    return -(one + other) / 2


def hidden_words(
    logits: Float[Tensor, "hidden vocabulary"], words: Int[Tensor, " hidden"], peers: Peers = _ALONE
) -> Float[Tensor, ""]:
    """Cross-entropy of the words that were hidden in everybody's captions (BERT, Devlin et al.
    2018, arXiv:1810.04805); 0 where none was. Its mean over processes is the mean over all hidden
    words.

    >>> import torch
    >>> from diptych.objectives.selfsup import hidden_words
    >>> hidden_words(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    tensor(0.)
    """
    count = peers.sum(torch.tensor(float(len(words)), device=logits.device)).clamp(min=1)
    return F.cross_entropy(wide(logits), words, reduction="sum") * peers.size / count


def nearest(
    images: Float[Tensor, "n width"],
    neighbours: Float[Tensor, "n width"],
    scale: Tensor,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """Which of everybody's neighbours is that of this picture's own text? (DeCLIP, Li et al. 2021,
    arXiv:2110.05208, §3.3; from pictures to texts only.) Unit vectors; the neighbours take no
    gradient."""
    logits = scale * images @ peers.all_gather(neighbours.detach()).T
    own = torch.arange(len(images), device=images.device) + peers.rank * len(images)
    return F.cross_entropy(logits, own)


def wide(x: Tensor) -> Tensor:
    """In float32 at least, whatever the heads computed in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def gather(local: Float[Tensor, "n *rest"], peers: Peers) -> Float[Tensor, "everyone *rest"]:
    """Everybody's rows, with gradient: each process gets the sum of what all say about its own."""
    return local if peers.size == 1 else _Gather.apply(local, peers)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers.all_gather(local)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.peers.reduce_scatter(gradients[0].contiguous()), None
