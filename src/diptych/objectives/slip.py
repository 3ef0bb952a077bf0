"""SLIP: CLIP, and pictures that teach themselves."""

from diptych.batch import Batch, Views
from diptych.config import SlipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective, look, unit
from diptych.objectives.heads import build_self_supervision
from diptych.objectives.pairs import check_pairs, contrast, terms


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
        super().__init__(model, config.pairs)
        self.config = config
        check_pairs(config.pairs, model)
        self.self_supervision = build_self_supervision(config.views, model.image.feature_width)

    def features(self, batch: Batch) -> Features:
        plain, *strong = look(self.model.image, batch.images)
        first, second = (self.model.image.feature(output.tokens) for output in strong)
        text = unit(self.model.encode_text(batch.texts[0]))
        return {"image": unit(plain.pooled), "text": text, "first": first, "second": second}

    def loss(self, features: Features, peers: Peers) -> Losses:
        pairs = contrast(self.pairs, self.model, features["image"], features["text"], peers)
        views = self.self_supervision(features["first"], features["second"], peers)
        total = pairs + self.config.views_weight * views
        recorded = terms(self.model, loss=total, pairs=pairs, views=views)
        self.clamp_before_step()
        return Losses(total, recorded)
