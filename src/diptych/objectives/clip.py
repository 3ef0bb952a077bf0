"""CLIP: which caption of the batch belongs to this picture, and which picture to this caption."""

import math

import torch

from diptych.config import ClipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective
from diptych.objectives.contrast import tiled_info_nce


class ClipObjective(Objective):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020); `contrast.info_nce` is the equation.

    A model with a `logit_bias` keeps it as it is: softmax doesn't see what is added to all logits.

    >>> import torch
    >>> from diptych import zoo
    >>> from diptych.config import ClipObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import build
    >>> from diptych.objectives import ClipObjective
    >>> objective = ClipObjective(ClipObjectiveConfig(), build(zoo.get("tiny")))
    >>> losses = objective.loss({"image": torch.eye(3), "text": torch.eye(3)}, Peers())
    >>> sorted(losses.terms)
    ['loss', 'scale']
    """

    def __init__(self, config: ClipObjectiveConfig, model: Clip):
        super().__init__(model)
        self.config = config
        if model.logit_bias is not None:
            model.logit_bias.requires_grad_(False)

    def loss(self, features: Features, peers: Peers) -> Losses:
        scale = self.model.logit_scale.exp()
        loss = tiled_info_nce(
            features["image"],
            features["text"],
            scale,
            label_smoothing=self.config.label_smoothing,
            tile=self.config.tile,
            peers=peers,
        )
        return Losses(loss, {"loss": loss.detach(), "scale": scale.detach().squeeze()})

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamp the scale to [1, max_logit_scale]."""
        self.model.logit_scale.clamp_(0, math.log(self.config.max_logit_scale))
