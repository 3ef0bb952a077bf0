"""SigLIP: does this caption belong to this picture, asked of every pair of the batch."""

from diptych.config import SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective
from diptych.objectives.contrast import tiled_sigmoid


class SiglipObjective(Objective):
    """The pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343); `contrast.sigmoid` is the equation.

    Raises ConfigError for a model without a `logit_bias`.

    >>> from dataclasses import replace
    >>> import torch
    >>> from diptych import zoo
    >>> from diptych.config import SiglipObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import build
    >>> from diptych.objectives import SiglipObjective
    >>> model = build(replace(zoo.get("tiny"), logit_bias=-10.0))
    >>> objective = SiglipObjective(SiglipObjectiveConfig(), model)
    >>> losses = objective.loss({"image": torch.eye(3), "text": torch.eye(3)}, Peers())
    >>> sorted(losses.terms)
    ['bias', 'loss', 'scale']
    """

    def __init__(self, config: SiglipObjectiveConfig, model: Clip):
        super().__init__(model)
        self.config = config
        if model.logit_bias is None:
            raise ConfigError("the SigLIP objective needs a model with a logit_bias (SigLIP starts it at -10)")

    def loss(self, features: Features, peers: Peers) -> Losses:
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        assert bias is not None
        loss = tiled_sigmoid(features["image"], features["text"], scale, bias, tile=self.config.tile, peers=peers)
        terms = {"loss": loss, "scale": scale.squeeze(), "bias": bias.squeeze()}
        return Losses(loss, {name: term.detach() for name, term in terms.items()})
