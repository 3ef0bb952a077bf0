"""SigLIP: does this caption belong to this picture, asked of every pair of the batch."""

from diptych.config import SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective
from diptych.objectives.pairs import check_pairs, contrast, terms


class SiglipObjective(Objective):
    """The pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343); `contrast.sigmoid` is the
    equation.

    Raises ConfigError for a model without a `logit_bias`.

    >>> from dataclasses import replace
    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.config import SiglipObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import build
    >>> from diptych.objectives import SiglipObjective
    >>> model = build(replace(pretrained.get("tiny"), logit_bias=-10.0))
    >>> objective = SiglipObjective(SiglipObjectiveConfig(), model)
    >>> losses = objective.loss({"image": torch.eye(3), "text": torch.eye(3)}, Peers())
    >>> sorted(losses.terms)
    ['bias', 'loss', 'scale']
    """

    def __init__(self, config: SiglipObjectiveConfig, model: Clip):
        super().__init__(model, config)
        check_pairs(config, model)

    def loss(self, features: Features, peers: Peers) -> Losses:
        loss = contrast(self.pairs, self.model, features["image"], features["text"], peers)
        return Losses(loss, terms(self.model, loss=loss))
