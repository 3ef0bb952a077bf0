"""DeCLIP: supervision from wherever it is to be had."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.batch import Batch, Views, sent
from diptych.config import DeclipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip, TokenKind, TowerOutput
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.contrastive import build_contrastive
from diptych.objectives.features import encode_views, unit
from diptych.objectives.heads import build_self_supervision
from diptych.objectives.queue import Queue
from diptych.objectives.self_supervision import (
    masked_language_modelling,
    nearest_neighbour_supervision,
)


class DeclipObjective(Objective):
    """Two views of a picture, a caption and another wording of it (Li et al. 2021,
    arXiv:2110.05208):

        pairs       the mean contrast of 2 pictures x 2 captions
        views       SimSiam between the two pictures' vectors
        words       masked language modelling (MLM): the words masked in a third view of the caption
        neighbours  pictures against the nearest texts of the past (nearest-neighbour supervision):
                    the mean of 2 pictures x 2 captions

    The text tower is causal: a masked word is predicted from the words before it alone, not from
    both sides as in BERT.

    `queue`: what remembers the texts of the past.

    >>> from dataclasses import replace
    >>> from diptych import pretrained
    >>> from diptych.config import DeclipObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import DeclipObjective
    >>> DeclipObjective(DeclipObjectiveConfig(queue=64), build(pretrained.get("tiny"))).views.text
    ('plain', 'augmented', 'masked')
    """

    views = Views(image=("strong", "strong"), text=("plain", "augmented", "masked"))

    def __init__(self, config: DeclipObjectiveConfig, model: Clip, queue: type[Queue] = Queue):
        super().__init__(model)
        self.config = config
        width = model.config.embed_dim
        self.contrastive = build_contrastive(config.pairs, model)
        self.self_supervision = build_self_supervision(config.views, width)
        self.word_head = nn.Linear(model.text.width, vocabulary(model))
        self.queue = queue(config.queue, width)

    def features(self, batch: Batch) -> Features:
        captions = list[TowerOutput]()
        for view, tokens in enumerate(self.caption_tokens()):
            lengths = batch.lengths_of(view) if self.may_shorten(view) else None
            captions.append(self.model.read_text(batch.texts[view], tokens, lengths))
        texts = self.texts_of(captions)
        pictures = encode_views(self.model.image, batch.images)
        return texts | self.features_of(batch, pictures, captions)

    def caption_tokens(self) -> list[TokenKind]:
        """Which tokens `features_of` reads of each view of the caption."""
        return ["normed" if view == "masked" else "none" for view in self.views.text]

    def texts_of(self, captions: list[TowerOutput]) -> Features:
        """Unit vectors of the two captions that are contrasted."""
        first, second = (self.send(unit(caption.pooled)) for caption in captions[:2])
        return {"text_1": first, "text_2": second}

    def may_shorten(self, view: int) -> bool:
        """Whether `features_of` leaves the padding of a view of the caption alone."""
        return True

    def features_of(
        self, batch: Batch, pictures: list[TowerOutput], captions: list[TowerOutput]
    ) -> Features:
        """What else the loss needs of the towers' outputs, in the order of the views; captions have
        the tokens that `caption_tokens` says."""
        assert batch.mlm_labels is not None
        masked = captions[self.views.text.index("masked")]
        return {
            "image_1": pictures[0].pooled,
            "image_2": pictures[1].pooled,
            "masked": masked.tokens,
            "labels": batch.mlm_labels,
        }

    def loss(self, features: Features, peers: Peers) -> Losses:
        images = [unit(features["image_1"]), unit(features["image_2"])]
        texts = [features["text_1"], features["text_2"]]
        scale = self.contrastive.scale()
        pairs = self._pairs(images, texts, peers)
        # SimSiam takes the vectors as they are: its projector begins with a linear layer.
        views = self.self_supervision(features["image_1"], features["image_2"], peers)
        words = self.masked_words(features["masked"], features["labels"], peers)
        near = self._neighbours(images, texts, scale, peers)
        c = self.config
        total = (
            c.pairs_weight * pairs
            + c.views_weight * views
            + c.words_weight * words
            + c.neighbours_weight * near
        )
        losses = scalars(loss=total, pairs=pairs, views=views, words=words, neighbours=near)
        carry = {
            "text_1": self.queue.collect(texts[0].detach(), peers),
            "text_2": self.queue.collect(texts[1].detach(), peers),
        }
        return Losses(total, losses | self.contrastive.metrics(), carry)

    def masked_words(
        self, tokens: Float[Tensor, "n length width"], labels: Tensor, peers: Peers
    ) -> Float[Tensor, ""]:
        """The loss of masked language modelling; `labels` [n, length]: the masked words' ids,
        negative elsewhere."""
        # The head is as wide as the vocabulary: it reads the masked places only, about a seventh.
        # Labels are on the CPU, as they come from the loader: to ask a GPU which they are would be
        # to wait until it has come so far.
        labels = labels.flatten().cpu()
        places = (labels >= 0).nonzero()[:, 0]
        targets = sent(labels[places], tokens.device)
        masked = tokens.flatten(0, 1)[sent(places, tokens.device)]
        return masked_language_modelling(self.word_head(masked), targets, peers)

    def _pairs(self, images: list[Tensor], texts: list[Tensor], peers: Peers) -> Tensor:
        losses = [
            self.contrastive.loss(image, text, peers)
            for text, image in itertools.product(texts, images)
        ]
        return torch.stack(losses).mean()

    def _neighbours(
        self, images: list[Tensor], texts: list[Tensor], scale: Tensor, peers: Peers
    ) -> Tensor:
        found = [self.queue.nearest(text) for text in texts]
        losses = [
            nearest_neighbour_supervision(image, neighbours, scale, peers)
            for neighbours, image in itertools.product(found, images)
        ]
        return torch.stack(losses).mean()

    def before_step(self) -> None:
        self.contrastive.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        self.contrastive.after_step()
        # Only now: the step's loss must not find its own texts as their neighbours. The other
        # wording first, as in DeCLIP's code.
        self.queue.push(carry["text_2"])
        self.queue.push(carry["text_1"])


def vocabulary(model: Clip) -> int:
    """How many token ids the model's text tower knows. Raises ConfigError for a tower of another
    library, which doesn't say."""
    size = model.config.text.vocabulary
    if size is None:
        raise ConfigError(
            "DeCLIP masks words of Diptych's own text tower; this model has another library's"
        )
    return size
