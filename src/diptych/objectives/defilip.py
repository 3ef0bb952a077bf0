"""DeFILIP: DeCLIP, and patches against words."""

from dataclasses import replace

from diptych.batch import Batch
from diptych.config import DefilipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip, TowerOutput
from diptych.objectives.base import Features, Losses
from diptych.objectives.declip import DeclipObjective
from diptych.objectives.tokens import TokenPairs


class DefilipObjective(DeclipObjective):
    """DeCLIP's loss + weight * tokens(first picture's patches, caption's words) (Cui et al. 2022,
    arXiv:2203.05796)."""

    def __init__(self, config: DefilipObjectiveConfig, model: Clip):
        super().__init__(config, model)
        self.tokens_weight = config.tokens_weight
        self.tokens = TokenPairs(config.tokens, model)
        self.views = replace(self.views, whole_length=not config.tokens.mask_padding)

    def describe(
        self, batch: Batch, pictures: list[TowerOutput], captions: list[TowerOutput]
    ) -> Features:
        tokens = self.tokens.features(self.model, pictures[0], captions[0], batch.texts[0])
        return super().describe(batch, pictures, captions) | tokens

    def loss(self, features: Features, peers: Peers) -> Losses:
        tokens = self.tokens(features["patches"], features["words"], features["seen"], peers)
        losses = super().loss(features, peers)
        total = losses.total + self.tokens_weight * tokens
        return Losses(total, losses.terms | {"loss": total.detach(), "tokens": tokens.detach()})

    def after_step(self) -> None:
        super().after_step()
        self.tokens.clamp()
