"""DeCLIP: supervision from wherever it is to be had."""

import torch
from torch import nn

from diptych.batch import Batch, Views
from diptych.config import DeclipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.families.clip import TextConfig
from diptych.models import Clip, TowerOutput
from diptych.objectives.base import Features, Losses, Objective, look, unit
from diptych.objectives.heads import build_self_supervision
from diptych.objectives.pairs import check_pairs, contrast, logit_scale, terms
from diptych.objectives.queue import Queue
from diptych.objectives.selfsup import hidden_words, nearest


class DeclipObjective(Objective):
    """Two views of a picture, a caption and another wording of it (Li et al. 2021,
    arXiv:2110.05208):

        pairs       the mean contrast of 2 pictures x 2 captions
        views       SimSiam between the two pictures' vectors
        words       the words hidden in a third reading of the caption
        neighbours  pictures against the nearest texts of the past: the mean of 2 pictures x 2 captions

    Hidden words are read by a causal tower: each from the words before it alone.

    >>> from dataclasses import replace
    >>> from diptych import pretrained
    >>> from diptych.config import DeclipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import DeclipObjective
    >>> DeclipObjective(DeclipObjectiveConfig(queue=64), build(pretrained.get("tiny"))).views.text
    ('plain', 'augmented', 'masked')
    """

    def __init__(self, config: DeclipObjectiveConfig, model: Clip):
        super().__init__(model, config.pairs)
        self.config = config
        check_pairs(config.pairs, model)
        if not isinstance(model.config.text, TextConfig):
            raise ConfigError(
                "DeCLIP hides words of Diptych's own text tower; this model has another library's"
            )
        texts = (
            ("masked", "augmented") if config.contrast_masked else ("plain", "augmented", "masked")
        )
        self.views = Views(image=("strong", "strong"), text=texts)
        self.self_supervision = build_self_supervision(config.views, model.config.embed_dim)
        self.word_head = nn.Linear(model.text.width, model.config.text.vocab_size)
        self.queue = Queue(config.queue, model.config.embed_dim, drop_rest=not config.share_queue)
        self._remembered: list[torch.Tensor] = []

    def features(self, batch: Batch) -> Features:
        pictures = look(self.model.image, batch.images)
        return self.describe(batch, pictures, [self.model.text(ids) for ids in batch.texts])

    def describe(
        self, batch: Batch, pictures: list[TowerOutput], captions: list[TowerOutput]
    ) -> Features:
        """What the loss needs of the towers' outputs, in the order of the views."""
        assert batch.hidden is not None
        masked = self.views.text.index("masked")
        return {
            "image_1": pictures[0].pooled,
            "image_2": pictures[1].pooled,
            "text_1": unit(captions[0].pooled),
            "text_2": unit(captions[1].pooled),
            "masked": self.model.text.normed(captions[masked].tokens),
            "hidden": batch.hidden,
        }

    def loss(self, features: Features, peers: Peers) -> Losses:
        c = self.config
        images = [unit(features["image_1"]), unit(features["image_2"])]
        texts = [features["text_1"], features["text_2"]]
        neighbours = [self.queue.nearest(text) for text in texts]
        scale = logit_scale(self.pairs, self.model)
        pairs = _mean(
            [
                contrast(self.pairs, self.model, image, text, peers)
                for text in texts
                for image in images
            ]
        )
        views = self.self_supervision(features["image_1"], features["image_2"], peers)
        chosen = features["hidden"] >= 0
        counted = peers if c.share_words else Peers()
        words = hidden_words(
            self.word_head(features["masked"][chosen]), features["hidden"][chosen], counted
        )
        near = _mean(
            [nearest(image, found, scale, peers) for found in neighbours for image in images]
        )
        total = (
            c.pairs_weight * pairs
            + c.views_weight * views
            + c.words_weight * words
            + c.neighbours_weight * near
        )
        recorded = terms(
            self.model, loss=total, pairs=pairs, views=views, words=words, neighbours=near
        )
        self._remembered = [self._everyones(text.detach(), peers) for text in reversed(texts)]
        self.clamp_before_step()
        return Losses(total, recorded)

    def after_step(self) -> None:
        super().after_step()
        for texts in self._remembered:
            self.queue.push(texts)
        self._remembered = []

    def _everyones(self, texts: torch.Tensor, peers: Peers) -> torch.Tensor:
        return peers.gather(texts) if self.config.share_queue else texts


def _mean(losses: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(losses).mean()
