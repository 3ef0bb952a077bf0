"""open_clip's losses of pairs: its arguments and its numbers, computed by Diptych's objectives in
the memory of a few rows of logits.

What is equal to open_clip's on several processes, in all four modes: values, gradients of features,
and gradients of scale and bias once they are averaged over processes, as DDP does.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.distributed import Peers, peers_met
from diptych.errors import ConfigError
from diptych.objectives.distillation import Said, distillation
from diptych.objectives.features import gather_with_gradient
from diptych.objectives.info_nce import tiled_info_nce

Number = float | Tensor
Loss = Callable[[Tensor, Tensor, Peers], Tensor]


def gather_features(
    image_features: Float[Tensor, "pairs width"],
    text_features: Float[Tensor, "pairs width"],
    local_loss: bool = False,
    gather_with_grad: bool = False,
    rank: int = 0,
    world_size: int = 1,
    use_horovod: bool = False,
) -> tuple[Float[Tensor, "everyone width"], Float[Tensor, "everyone width"]]:
    """Everybody's pictures and texts, in rank order. Gradients flow to all (`gather_with_grad`), or
    to the own rows alone, or with `local_loss` to none. Raises ConfigError where no processes have
    met, and for Horovod."""
    peers = peers_of(rank, world_size, image_features.device, use_horovod)

    def gathered(rows: Tensor) -> Tensor:
        if gather_with_grad:
            return gather_with_gradient(rows, peers)
        everyones = peers.all_gather(rows.detach())
        if local_loss:
            return everyones
        before, after = everyones[: rank * len(rows)], everyones[(rank + 1) * len(rows) :]
        return torch.cat([before, rows, after])

    return gathered(image_features), gathered(text_features)


class ClipLoss(nn.Module):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020, figure 3).

    On `world_size` processes everybody's pairs are candidates. `local_loss`: the value is the mean
    over the own pairs, not over all. `gather_with_grad`: gradients come from all processes, times
    their number; else those of the mean over all to the own rows. `cache_labels` has no meaning.
    `smoothing` of labels is eva_clip's.

    >>> import torch
    >>> from diptych.compat import ClipLoss
    >>> features = torch.eye(4)
    >>> round(ClipLoss()(features, features, torch.tensor(1.0)).item(), 4)  # log(1 + 3 / e)
    0.7437
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
        smoothing: float = 0.0,
    ):
        super().__init__()
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.use_horovod = use_horovod
        self.smoothing = smoothing

    def get_ground_truth(self, device: torch.device, num_logits: int) -> Int[Tensor, " pairs"]:
        """The column of each own row's pair."""
        first = num_logits * self.rank if self.world_size > 1 and self.local_loss else 0
        return torch.arange(first, first + num_logits, device=device)

    def get_logits(
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "pairs width"],
        logit_scale: Number,
        logit_bias: Number | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of pictures for texts and of texts for pictures: of the own with `local_loss`,
        else of all."""
        images, texts = image_features, text_features
        if self.world_size > 1:
            modes = (self.local_loss, self.gather_with_grad, self.rank, self.world_size)
            images, texts = gather_features(images, texts, *modes, self.use_horovod)
        if self.local_loss:
            by_image = logit_scale * image_features @ texts.T
            by_text = logit_scale * text_features @ images.T
        else:
            by_image = logit_scale * images @ texts.T
            by_text = by_image.T
        if logit_bias is None:
            return by_image, by_text
        return by_image + logit_bias, by_text + logit_bias

    def forward(
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "pairs width"],
        logit_scale: Number = 1.0,
        logit_bias: Number | None = None,
        output_dict: bool = False,
    ) -> Any:
        """The loss of unit rows that belong together; `logit_scale`: the inverse temperature."""
        loss = self.contrastive(image_features, text_features, logit_scale, logit_bias)
        if isinstance(logit_bias, Tensor):
            # The same number on all logits changes no softmax. DDP wants its gradient all the same.
            loss = loss + 0 * logit_bias.sum()
        return {"contrastive_loss": loss} if output_dict else loss

    def contrastive(
        self, images: Tensor, texts: Tensor, scale: Number, bias: Number | None = None
    ) -> Tensor:
        """InfoNCE, in this loss's mode."""
        if self._whole:
            said = {} if bias is None else {"logit_bias": bias}
            logits = self.get_logits(images, texts, scale, **said)
            labels = self.get_ground_truth(images.device, len(logits[0]))
            losses = [
                F.cross_entropy(each, labels, label_smoothing=self.smoothing) for each in logits
            ]
            return torch.stack(losses).mean()

        def loss(images: Tensor, texts: Tensor, peers: Peers) -> Tensor:
            factor = as_tensor(scale, images)
            return tiled_info_nce(
                images, texts, factor, label_smoothing=self.smoothing, peers=peers
            )

        return self.in_mode(loss, images, texts)

    @property
    def _whole(self) -> bool:
        """Whether all logits are made: where a subclass makes them or the labels, and where others'
        rows are mere numbers, as what is lost then no tiled loss leaves out."""
        alone = self.world_size > 1 and self.local_loss and not self.gather_with_grad
        return alone or is_changed(self, ClipLoss, "get_logits", "get_ground_truth")

    def in_mode(self, loss: Loss, images: Tensor, texts: Tensor) -> Tensor:
        """A loss over the own pairs, whose gradients come from all processes, as this mode has
        it."""
        peers = peers_of(self.rank, self.world_size, images.device, self.use_horovod)
        if not self.gather_with_grad:
            images, texts = (_damped(rows, peers.size) for rows in (images, texts))
        own = loss(images, texts, peers)
        if self.local_loss or peers.size == 1:
            return own
        return own + (peers.sum(own.detach()) / peers.size - own.detach())


class DistillClipLoss(ClipLoss):
    """The same, and how far the softmax of the logits is from a teacher's: their cross entropy."""

    def dist_loss(
        self,
        teacher_logits: Float[Tensor, "rows candidates"],
        student_logits: Float[Tensor, "rows candidates"],
    ) -> Float[Tensor, ""]:
        """Mean cross entropy of the rows, with the teacher's softmax as the target."""
        return F.cross_entropy(student_logits, teacher_logits.softmax(1))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_features: Float[Tensor, "pairs width"],
        text_features: Float[Tensor, "pairs width"],
        logit_scale: Number,
        dist_image_features: Float[Tensor, "pairs theirs"],
        dist_text_features: Float[Tensor, "pairs theirs"],
        dist_logit_scale: Number,
        output_dict: bool = False,
    ) -> Any:
        """(contrastive loss, distillation loss) of unit rows and of the teacher's."""
        contrastive = self.contrastive(image_features, text_features, logit_scale)
        student = (image_features, text_features, logit_scale)
        teacher = (dist_image_features, dist_text_features, dist_logit_scale)
        distilled = self._distilled(student, teacher)
        if output_dict:
            return {"contrastive_loss": contrastive, "distill_loss": distilled}
        return contrastive, distilled

    def _distilled(
        self, student: tuple[Tensor, Tensor, Number], teacher: tuple[Tensor, Tensor, Number]
    ) -> Tensor:
        if self._whole or is_changed(self, DistillClipLoss, "dist_loss"):
            pairs = zip(self.get_logits(*teacher), self.get_logits(*student), strict=True)
            return torch.stack([self.dist_loss(*pair) for pair in pairs]).mean()
        said = Said(teacher[0] * teacher[2], teacher[1])

        def loss(images: Tensor, texts: Tensor, peers: Peers) -> Tensor:
            factor = as_tensor(student[2], images)
            return distillation(images, texts, factor, [said], form="cross_entropy", peers=peers)

        return self.in_mode(loss, student[0], student[1])


def is_changed(loss: nn.Module, kind: type[nn.Module], *names: str) -> bool:
    """Whether a subclass, or who holds the loss, put other methods in the place of these of
    `kind`."""
    return any(
        getattr(getattr(loss, name), "__func__", None) is not getattr(kind, name) for name in names
    )


def peers_of(rank: int, size: int, device: torch.device, horovod: bool = False) -> Peers:
    """The processes that have met. Raises ConfigError for Horovod, and where fewer have."""
    if horovod:
        raise ConfigError("use_horovod has no counterpart in Diptych; start processes by torchrun")
    return peers_met(rank, size, device)


def _damped(rows: Tensor, size: int) -> Tensor:
    """The same numbers, of whose gradient one of `size` parts comes through."""
    return rows.detach() + (rows - rows.detach()) / size


def as_tensor(number: Number, like: Tensor) -> Tensor:
    """A number that may be a tensor already, on the device of `like`."""
    return torch.as_tensor(number, device=like.device)
