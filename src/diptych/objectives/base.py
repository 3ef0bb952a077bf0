"""What every objective is: the owner of a model, a statement of the views it needs, and a loss."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.batch import Batch, Views
from diptych.config import ClipObjectiveConfig, ContrastiveConfig
from diptych.distributed import Peers
from diptych.models import Clip, Tower, TowerOutput

Features = dict[str, Tensor]
"""What the towers give for a batch: by name, batch first."""


class Losses(NamedTuple):
    """`total` is what is minimised: a scalar with gradient. `terms` are detached scalars for the
    record."""

    total: Tensor
    terms: dict[str, Tensor]


class Cotangents(NamedTuple):
    """The loss's gradients: with respect to the features of a batch, and to parameters, by name,
    that it uses itself.

    `parameters` is empty for all micro-batches of a step but one.
    """

    features: Features
    parameters: dict[str, Tensor]


class Objective(nn.Module):
    """A loss over a model. The only module that is wrapped (DDP) and the only one that the loop
    calls.

    The loss is split where a batch can be cut: `features` treats samples one by one, `loss`
    contrasts them. Gradient accumulation rests on it (Gao et al. 2021, arXiv:2101.06983):
    `objective(batch, peers)` gives the losses, and `objective(batch, peers, cotangents)` the sum of
    features and parameters times the given gradients, whose gradient is the chain rule's second
    half.

    A subclass states its `views`, where it wants more than one plain picture and caption, and
    writes `loss`."""

    views = Views()

    def __init__(self, model: Clip, pairs: ContrastiveConfig):
        super().__init__()
        self.model = model
        self.pairs = pairs
        """How whole pictures and captions are contrasted."""
        model.train_tokens(
            False
        )  # unless the loss uses them; processes wait for the gradient of all that is trained

    def features(self, batch: Batch) -> Features:
        """What the loss needs of each pair; here unit vectors: `image` and `text`, both
        Float[batch, embed_dim]."""
        return {
            "image": unit(self.model.encode_image(batch.images[0])),
            "text": unit(self.model.encode_text(batch.texts[0])),
        }

    def loss(self, features: Features, peers: Peers) -> Losses:
        """The losses of the local rows against everybody's; their mean over processes is the
        batch's."""
        raise NotImplementedError

    def forward(self, batch: Batch, peers: Peers, cotangents: Cotangents | None = None) -> Losses:
        """Losses of one batch; with `cotangents`, the scalar whose gradient is the loss's (see the
        class)."""
        features = self.features(batch)
        if cotangents is None:
            return self.loss(features, peers)
        parameters = dict(self.named_parameters())
        products = [
            (features[name] * gradient).sum() for name, gradient in cotangents.features.items()
        ]
        products += [
            (parameters[name] * gradient).sum() for name, gradient in cotangents.parameters.items()
        ]
        return Losses(torch.stack(products).sum(), {})

    def after_step(self) -> None:
        """Called after every optimiser step: clamps, queues, teachers. Here the scale's clamp."""
        if isinstance(self.pairs, ClipObjectiveConfig):
            clamp_scale(
                self.model.logit_scale, self.pairs.min_logit_scale, self.pairs.max_logit_scale
            )

    def clamp_before_step(self) -> None:
        """Called at the end of `loss`, as some code was published: the loss keeps the scale that it
        was made with."""
        if isinstance(self.pairs, ClipObjectiveConfig) and self.pairs.clamp_before_step:
            clamp_scale(
                self.model.logit_scale, self.pairs.min_logit_scale, self.pairs.max_logit_scale
            )


def look(tower: Tower, views: Sequence[Tensor]) -> list[TowerOutput]:
    """What an image tower makes of several views [n, 3, size, size]: in one call, except where
    outputs depend on what stands beside them in the batch."""
    if tower.training and tower.batch_statistics:
        return [tower(view) for view in views]
    together = tower(torch.cat(list(views)))
    parts = (output.chunk(len(views)) for output in together)
    return [TowerOutput(tokens, pooled) for tokens, pooled in zip(*parts, strict=True)]


@torch.no_grad()
def clamp_scale(scale: Tensor, least: float, most: float) -> None:
    """Keep exp(`scale`) within [least, most], in place."""
    scale.clamp_(math.log(least), math.log(most))


def unit(vectors: Tensor) -> Tensor:
    """Rows of unit length, in float32 at least, whatever the towers computed in."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
