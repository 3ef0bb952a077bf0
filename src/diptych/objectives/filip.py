"""FILIP: patches and words compared one by one."""

from diptych.batch import Batch, Views
from diptych.config import FilipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective, look, unit
from diptych.objectives.pairs import check_pairs, contrast, terms
from diptych.objectives.tokens import TokenPairs


class FilipObjective(Objective):
    """weight * tokens(patches, words) + weight * contrast(picture, caption) (Yao et al. 2021,
    arXiv:2111.07783).

    >>> from dataclasses import replace
    >>> from diptych import pretrained
    >>> from diptych.config import FilipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import FilipObjective
    >>> FilipObjective(FilipObjectiveConfig(), build(replace(pretrained.get("tiny"), token_dim=16))).views.whole_length
    True
    """

    def __init__(self, config: FilipObjectiveConfig, model: Clip):
        super().__init__(model, config.pairs)
        self.config = config
        check_pairs(config.pairs, model)
        text = "masked" if config.contrast_masked else "plain"
        self.views = Views(
            image=("strong",), text=(text,), whole_length=not config.tokens.mask_padding
        )
        self.tokens = TokenPairs(config.tokens, model)

    def features(self, batch: Batch) -> Features:
        [picture], caption = look(self.model.image, batch.images), self.model.text(batch.texts[0])
        vectors = {"image": unit(picture.pooled), "text": unit(caption.pooled)}
        return vectors | self.tokens.features(self.model, picture, caption, batch.texts[0])

    def loss(self, features: Features, peers: Peers) -> Losses:
        tokens = self.tokens(features["patches"], features["words"], features["seen"], peers)
        pairs = contrast(self.pairs, self.model, features["image"], features["text"], peers)
        total = self.config.tokens_weight * tokens + self.config.pairs_weight * pairs
        recorded = terms(self.model, loss=total, tokens=tokens, pairs=pairs)
        self.clamp_before_step()
        return Losses(total, recorded)

    def after_step(self) -> None:
        super().after_step()
        self.tokens.clamp()
