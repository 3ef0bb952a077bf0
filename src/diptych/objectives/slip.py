"""SLIP: CLIP, and pictures that teach themselves."""

from torch import Tensor

from diptych.batch import Batch, Views
from diptych.config import SlipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.contrastive import build_contrastive
from diptych.objectives.features import encode_views, unit
from diptych.objectives.heads import build_self_supervision


class SlipObjective(Objective):
    """contrast(picture, caption) + weight * views(strong, strong) (Mu et al. 2021,
    arXiv:2112.12750, algorithm 1).

    The self-supervised part sees the tower's vector before it is projected to the space of
    captions.

    >>> from diptych import pretrained
    >>> from diptych.config import SlipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import SlipObjective
    >>> SlipObjective(SlipObjectiveConfig(), build(pretrained.get("tiny"))).views.image
    ('plain', 'strong', 'strong')
    """

    views = Views(image=("plain", "strong", "strong"))

    def __init__(self, config: SlipObjectiveConfig, model: Clip):
        super().__init__(model)
        self.config = config
        self.contrastive = build_contrastive(config.pairs, model)
        self.self_supervision = build_self_supervision(config.views, model.image.feature_width)

    def features(self, batch: Batch) -> Features:
        text = self.send(unit(self.model.encode_text(batch.texts[0], lengths=batch.lengths_of(0))))
        plain, *strong = encode_views(self.model.image, batch.images, tokens="none")
        first, second = (output.feature for output in strong)
        return {"image": unit(plain.pooled), "text": text, "first": first, "second": second}

    def loss(self, features: Features, peers: Peers) -> Losses:
        pairs = self.contrastive.loss(features["image"], features["text"], peers)
        views = self.self_supervision(features["first"], features["second"], peers)
        total = pairs + self.config.views_weight * views
        losses = scalars(loss=total, pairs=pairs, views=views)
        return Losses(total, losses | self.contrastive.metrics())

    def before_step(self) -> None:
        self.contrastive.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        self.contrastive.after_step()
