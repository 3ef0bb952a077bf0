"""DeFILIP: DeCLIP, and patches against words."""

from dataclasses import replace

from torch import Tensor

from diptych.batch import Batch
from diptych.config import DefilipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip, TokenKind, TowerOutput
from diptych.objectives.base import Features, Losses, scalars
from diptych.objectives.declip import DeclipObjective
from diptych.objectives.queue import Queue
from diptych.objectives.token_pairs import build_token_pairs


class DefilipObjective(DeclipObjective):
    """DeCLIP's loss + weight * tokens(first picture's patches, caption's words) (Cui et al. 2022,
    arXiv:2203.05796)."""

    def __init__(self, config: DefilipObjectiveConfig, model: Clip, queue: type[Queue] = Queue):
        super().__init__(config, model, queue)
        self.tokens_weight = config.tokens_weight
        self.tokens = build_token_pairs(config.tokens, model)
        self.views = replace(self.views, whole_length=self.tokens.whole_length)

    def caption_tokens(self) -> list[TokenKind]:
        return ["normed", *super().caption_tokens()[1:]]

    def may_shorten(self, view: int) -> bool:
        return view > 0 or self.tokens.config.mask_padding

    def features_of(
        self, batch: Batch, pictures: list[TowerOutput], captions: list[TowerOutput]
    ) -> Features:
        tokens = self.tokens.features(self.model, pictures[0], captions[0], batch.texts[0])
        return super().features_of(batch, pictures, captions) | tokens

    def loss(self, features: Features, peers: Peers) -> Losses:
        tokens = self.tokens(features["patches"], features["words"], features["seen"], peers)
        declip = super().loss(features, peers)
        total = declip.total + self.tokens_weight * tokens
        metrics = declip.metrics | scalars(loss=total, tokens=tokens)
        return Losses(total, metrics, declip.carry)

    def before_step(self) -> None:
        super().before_step()
        self.tokens.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        super().after_step(carry)
        self.tokens.after_step()
