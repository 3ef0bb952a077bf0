"""Masked image modelling: an image tower learns to tell of hidden patches what a CLIP teacher sees
there."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.batch import Batch, HiddenView, Views
from diptych.config.taught import MimObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip, Tower
from diptych.nn import PatchDropout
from diptych.nn.patch import Masked
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.features import at_least_float32
from diptych.objectives.teacher import Teacher

_ALONE = Peers()


class MimObjective(Objective):
    """Minus the mean cosine similarity, over all hidden patches, between what the model says of a
    patch and the teacher's projected token of the whole picture (EVA, Fang et al. 2022,
    arXiv:2211.07636, §2.1; EVA-02, arXiv:2303.11331).

    Of the model only the image tower is trained: its projection is the head that says, and its text
    tower is the teacher's (`MimObjectiveConfig.inherits_text`), so what is saved is an ordinary
    model. The mask token belongs to the objective, and to its checkpoints' training part: nothing
    but this pretext task needs it.

    Where the teacher has another grid of patches than the model, its tokens are interpolated
    (bilinear) to the model's.

    Raises ConfigError for a tower, the model's or the teacher's, without a grid of patches.

    >>> from diptych import pretrained
    >>> from diptych.config import MimObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import MimObjective
    >>> tiny = pretrained.get("tiny")
    >>> objective = MimObjective(MimObjectiveConfig(), build(tiny), [build(tiny)])
    >>> objective.views.text, objective.views.hidden
    ((), HiddenView(side=3, count=4, exact=True))
    """

    contrasts = False

    def __init__(self, config: MimObjectiveConfig, model: Clip, teachers: Sequence[Clip]):
        super().__init__(model)
        if len(teachers) != 1:
            raise ConfigError(
                f"masked image modelling has one teacher, and --objective.teachers names "
                f"{len(teachers)}: name a trained model"
            )
        self.teacher = Teacher(teachers[0], text=False)
        self.side, self._seen = grid_of(model.image, "model"), grid_of(teachers[0].image, "teacher")
        if any(isinstance(part, PatchDropout) and part.share for part in model.image.modules()):
            raise ConfigError(
                "masked image modelling needs every patch of a picture, and --model.image."
                "patch-dropout leaves some out: set it to 0"
            )
        self.mask_token = nn.Parameter(torch.zeros(1, model.image.width))
        if not self.mask_token.is_meta:
            nn.init.trunc_normal_(self.mask_token, std=0.02)
        count = max(1, round(config.hide * self.side**2))
        self.views = Views(text=(), hidden=HiddenView(self.side, count, config.exact))
        self.remarks = tuple(self._remarks())
        # No loss reaches the rest: DDP expects the gradient of every parameter that is trained.
        for part in (model.text, *_unread(model.image)):
            part.requires_grad_(False).eval()
        for scale in (model.logit_scale, model.logit_bias):
            if scale is not None:
                scale.requires_grad_(False)

    def _remarks(self) -> list[str]:
        found, (ours, theirs) = list[str](), (self.model.image, self.teacher.image)
        if ours.config.image_size != theirs.config.image_size:
            found.append(
                f"the teacher sees pictures of {theirs.config.image_size} pixels: the crops of "
                f"{ours.config.image_size} are resized for it"
            )
        if self.side != self._seen:
            found.append(
                f"the teacher's {self._seen} x {self._seen} tokens are interpolated to the model's "
                f"{self.side} x {self.side} patches"
            )
        return found

    def features(self, batch: Batch) -> Features:
        """What the model says: `predicted`, [hidden patches of all pictures, embed_dim]."""
        assert batch.hidden is not None
        masked = Masked(batch.hidden.places, self.mask_token[0])
        image = self.model.image
        tokens = image(batch.images[0], tokens="projected", masked=masked).tokens
        return {"predicted": self._hidden(batch, tokens[:, image.class_tokens :])}

    def targets(self, batch: Batch) -> Features:
        """What the teacher sees in the same places: `target`."""
        tokens = self.teacher.see(batch, tokens="projected").tokens
        patches = tokens[:, self.teacher.image.class_tokens :]
        return {"target": self._hidden(batch, interpolated(patches, self._seen, self.side))}

    def _hidden(self, batch: Batch, patches: Float[Tensor, "batch patches width"]) -> Tensor:
        """Those of the hidden patches, all pictures' in a row."""
        assert batch.hidden is not None
        return patches.flatten(0, 1)[batch.hidden.flat()]

    def terms(self, batch: Batch) -> int:
        """The hidden patches: each is one term of the mean."""
        assert batch.hidden is not None
        return sum(batch.hidden.counts)

    def loss(self, features: Features, peers: Peers) -> Losses:
        loss = masked_image_modelling(features["predicted"], features["target"], peers)
        return Losses(loss, scalars(loss=loss))


def masked_image_modelling(
    predicted: Float[Tensor, "hidden width"],
    target: Float[Tensor, "hidden width"],
    peers: Peers = _ALONE,
) -> Float[Tensor, ""]:
    """Minus the mean cosine similarity of the rows of everybody; in float32 at least. Its mean over
    processes is the mean over all rows.

    >>> import torch
    >>> from diptych.objectives.mim import masked_image_modelling
    >>> masked_image_modelling(torch.eye(2), torch.tensor([[2.0, 0.0], [3.0, 0.0]]))
    tensor(-0.5000)
    """
    cosine = F.cosine_similarity(at_least_float32(predicted), at_least_float32(target), dim=-1)
    # Processes may hide different numbers of patches: a mean of means would weigh them unequally.
    count = peers.sum(torch.ones_like(cosine).sum()).clamp(min=1)
    return -cosine.sum() * peers.size / count


def interpolated(
    patches: Float[Tensor, "batch patches width"], seen: int, side: int
) -> Float[Tensor, "batch others width"]:
    """The tokens of a grid of `seen` x `seen` patches at the places of one of `side` x `side`."""
    if seen == side:
        return patches
    grid = patches.transpose(1, 2).unflatten(2, (seen, seen)).float()
    size = (side, side)
    found = F.interpolate(grid, size, mode="bilinear", antialias=side < seen, align_corners=False)
    return found.flatten(2).transpose(1, 2).to(patches.dtype)


def grid_of(tower: Tower[Any], whose: str) -> int:
    """The side of a tower's grid of patches. Raises ConfigError for one without."""
    if tower.grid is None:
        raise ConfigError(
            "masked image modelling needs towers that read a picture as a grid of patches, and the "
            f"{whose}'s is a {type(tower).__name__}: choose a vision transformer (ViT or EVA)"
        )
    return tower.grid


def _unread(tower: Tower[Any]) -> list[nn.Module]:
    """What of the tower only its pooled vector needs."""
    return [tower.get_submodule(tower.readout)] if tower.readout else []
