"""What teachers find alike, as a target: the equation of contrastive distillation.

With unit vectors u of pictures and v of captions, and a temperature t, S_t(u, v) is the softmax
over each row of u v^T / t: of one picture, how likely each caption of the batch is its own. The
loss compares the teacher's S with the model's, row by row, for pictures and for captions (Vasu et
al. 2023, arXiv:2311.17049, equation 3).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diptych.distributed import Peers
from diptych.objectives.features import gather_with_gradient
from diptych.objectives.logit_tiles import Scalar, logit_precision

_ALONE = Peers()
Form = Literal["kl", "cross_entropy"]


class Said(NamedTuple):
    """A teacher's vectors of some pairs, of whatever width: `images` are times the inverse of its
    temperature, `texts` of length 1."""

    images: Float[Tensor, "pairs _"]
    texts: Float[Tensor, "pairs _"]


def distillation(
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    scale: Scalar,
    teachers: Sequence[Said],
    *,
    form: Form = "kl",
    tile: int = 512,
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """How far the softmax of the unit rows `images` and `texts` times `scale` is from a teacher's:
    their divergence (`kl`) or `cross_entropy`, the mean over teachers; half over captions for each
    picture, half back. Everybody's pairs are candidates; the mean over processes is the batch's.

    >>> import torch
    >>> from diptych.objectives.distillation import Said, distillation
    >>> same = Said(torch.eye(2), torch.eye(2))
    >>> distillation(torch.eye(2), torch.eye(2), torch.tensor(1.0), [same])
    tensor(0.)
    """
    with torch.autocast(images.device.type, enabled=False):
        images, texts, scale = logit_precision(images, texts, scale)
        everyones = _gathered(teachers, peers)
        # Either way: pictures among captions, captions among pictures.
        there = (images, gather_with_gradient(texts, peers), False)
        back = (texts, gather_with_gradient(images, peers), True)
        sums = list[Tensor]()
        for rows, keys, turned in (there, back):
            others = [_turned(said, turned)[1] for said in everyones]
            own = [_turned(said, turned)[0].split(tile) for said in teachers]
            for part, *targets in zip(rows.split(tile), *own, strict=True):
                # No logits are kept for the backward pass: there, they are made again.
                loss = checkpoint(
                    *(_sum, part, keys, scale, targets, others, form),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                sums.append(loss)
        return torch.stack(sums).sum() / (2 * len(images))


def _sum(
    rows: Tensor,
    keys: Tensor,
    scale: Tensor,
    targets: Sequence[Tensor],
    others: Sequence[Tensor],
    form: Form,
) -> Tensor:
    """Over these rows; of teachers the mean."""
    student = (scale * rows @ keys.T).log_softmax(1)
    total = torch.zeros_like(student[0, 0])
    for target, other in zip(targets, others, strict=True):
        teacher = (target @ other.T).to(student.dtype).log_softmax(1)
        # KL(t || s) = sum t (log t - log s); the first part is minus the teacher's entropy, which
        # has no gradient.
        apart = teacher - student if form == "kl" else -student
        total = total + (teacher.exp() * apart).sum()
    return total / len(targets)


def _turned(said: Said, turned: bool) -> tuple[Tensor, Tensor]:
    """What is compared with what: pictures with captions, or captions with pictures."""
    return (said.texts, said.images) if turned else (said.images, said.texts)


def _gathered(teachers: Sequence[Said], peers: Peers) -> list[Said]:
    """Everybody's vectors, without gradient, in one transfer."""
    if peers.size == 1:
        return list(teachers)
    columns = [vectors for said in teachers for vectors in said]
    widths = [vectors.shape[1] for vectors in columns]
    everyones = peers.all_gather(torch.cat(columns, dim=1)).split(widths, dim=1)
    return [Said(*pair) for pair in zip(everyones[::2], everyones[1::2], strict=True)]
