"""CLIP: which caption of the batch belongs to this picture, and which picture to this caption."""

from diptych.config import ClipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective
from diptych.objectives.pairs import check_pairs, contrast, terms


class ClipObjective(Objective):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020); `contrast.info_nce` is the
    equation.

    A model with a `logit_bias` keeps it as it is: softmax doesn't see what is added to all logits.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.config import ClipObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import build
    >>> from diptych.objectives import ClipObjective
    >>> objective = ClipObjective(ClipObjectiveConfig(), build(pretrained.get("tiny")))
    >>> losses = objective.loss({"image": torch.eye(3), "text": torch.eye(3)}, Peers())
    >>> sorted(losses.terms)
    ['loss', 'scale']
    """

    def __init__(self, config: ClipObjectiveConfig, model: Clip):
        super().__init__(model, config)
        check_pairs(config, model)

    def loss(self, features: Features, peers: Peers) -> Losses:
        loss = contrast(self.pairs, self.model, features["image"], features["text"], peers)
        recorded = terms(self.model, loss=loss)
        self.clamp_before_step()
        return Losses(loss, recorded)
