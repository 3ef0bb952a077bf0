"""FILIP: patches and words compared one by one."""

from torch import Tensor

from diptych.batch import Batch, Views
from diptych.config import FilipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.contrastive import build_contrastive
from diptych.objectives.features import encode_views, unit
from diptych.objectives.token_pairs import build_token_pairs


class FilipObjective(Objective):
    """weight * tokens(patches, words) + weight * contrast(picture, caption) (Yao et al. 2021,
    arXiv:2111.07783).

    >>> from dataclasses import replace
    >>> from diptych import pretrained
    >>> from diptych.config import FilipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import FilipObjective
    >>> model = build(replace(pretrained.get("tiny"), token_dim=16))
    >>> FilipObjective(FilipObjectiveConfig(), model).views.whole_length
    True
    """

    def __init__(self, config: FilipObjectiveConfig, model: Clip):
        super().__init__(model)
        self.config = config
        self.contrastive = build_contrastive(config.pairs, model)
        self.tokens = build_token_pairs(config.tokens, model)
        self.views = Views(image=("strong",), whole_length=self.tokens.whole_length)

    def features(self, batch: Batch) -> Features:
        lengths = batch.lengths_of(0) if self.config.tokens.mask_padding else None
        caption = self.model.read_text(batch.texts[0], "normed", lengths)
        text = self.send(unit(caption.pooled))
        [picture] = encode_views(self.model.image, batch.images)
        vectors = {"image": unit(picture.pooled), "text": text}
        return vectors | self.tokens.features(self.model, picture, caption, batch.texts[0])

    def loss(self, features: Features, peers: Peers) -> Losses:
        tokens = self.tokens(features["patches"], features["words"], features["seen"], peers)
        pairs = self.contrastive.loss(features["image"], features["text"], peers)
        total = self.config.tokens_weight * tokens + self.config.pairs_weight * pairs
        losses = scalars(loss=total, tokens=tokens, pairs=pairs)
        return Losses(total, losses | self.contrastive.metrics())

    def before_step(self) -> None:
        self.contrastive.before_step()
        self.tokens.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        self.contrastive.after_step()
        self.tokens.after_step()
