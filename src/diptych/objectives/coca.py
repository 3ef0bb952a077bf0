"""CoCa: pictures and captions are contrasted, and captions are written."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.batch import Batch, TextLengths, sent
from diptych.config import CocaObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.captioning import captioning, tiled_token_losses
from diptych.objectives.contrastive import build_contrastive
from diptych.objectives.features import unit


class CocaObjective(Objective):
    """pairs_weight * contrast(picture, caption) + captions_weight * the mean cross entropy of each
    next token of a caption, given the picture and the tokens before it (Yu et al. 2022,
    arXiv:2205.01917, equations 1 to 3).

    Padding is no token, and the end of a caption is one. Batches must know their captions'
    `lengths`, as those of the loader do.

    Raises ConfigError for a model without a decoder.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.batch import Batch, TextLengths
    >>> from diptych.config import CocaObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import CocaObjective
    >>> objective = CocaObjective(CocaObjectiveConfig(), build(pretrained.get("tiny-coca")))
    >>> batch = Batch(images=(torch.rand(2, 3, 48, 48),), index=torch.arange(2),
    ...               texts=(torch.tensor([[49406, 320, 49407], [49406, 49407, 0]]),),
    ...               lengths=(TextLengths.of([3, 2]),))
    >>> sorted(objective(batch).metrics)
    ['captions', 'loss', 'pairs', 'scale']
    """

    def __init__(self, config: CocaObjectiveConfig, model: Clip):
        super().__init__(model)
        if model.decoder is None:
            raise ConfigError(
                "the CoCa objective trains a decoder, and this model has none: choose one that "
                "writes captions, such as coca-vit-b-32"
            )
        model.decoder.requires_grad_(True)
        self.config = config
        self.contrastive = build_contrastive(config.pairs, model)

    def features(self, batch: Batch) -> Features:
        """Beside the unit vectors, of each caption the sum of its `losses` and the number of its
        `tokens`: what is compared with nobody's is done here, where a batch can be cut."""
        model, ids, lengths = self.model, batch.texts[0], batch.lengths_of(0)
        decoder = model.decoder
        assert decoder is not None
        if lengths is None:
            raise ConfigError("the batch doesn't know how long its captions are: give it `lengths`")
        text = model.read_text(ids, model.config.text.decoded, lengths)
        vectors = self.send(unit(text.pooled))
        image = model.image(batch.images[0], decoder.config.reads)
        words, pictures = text.tokens[:, :-1], image.tokens[:, model.image.class_tokens :]
        seen = model.image.real_patches(batch.images[0])
        states = decoder.training_states(model.text, ids[:, :-1], words, pictures, seen)
        losses, tokens = self._losses(states, ids[:, 1:], lengths, decoder.head(model.text))
        return {"image": unit(image.pooled), "text": vectors, "losses": losses, "tokens": tokens}

    def _losses(
        self,
        states: Float[Tensor, "captions places width"],
        following: Int[Tensor, "captions places"],
        lengths: TextLengths,
        logits: Callable[[Tensor], Tensor],
    ) -> tuple[Float[Tensor, " captions"], Int[Tensor, " captions"]]:
        """Of each caption, whose place i is followed by `following` i."""
        count = following.shape[1]
        # The places before the end: from lengths on the host, so that nobody waits for a GPU.
        chosen = [
            row * count + place
            for row, length in enumerate(lengths.host)
            for place in range(length - 1)
        ]
        places = sent(torch.tensor(chosen, dtype=torch.long), states.device)
        found = tiled_token_losses(
            states.flatten(0, 1).index_select(0, places),
            following.flatten().index_select(0, places),
            logits,
            self.config.tile,
        )
        # Each to its own place, and then a sum over rows, whose order doesn't change.
        table = found.new_zeros(following.numel()).index_copy(0, places, found)
        return table.view(following.shape).sum(dim=1), lengths.device - 1

    def loss(self, features: Features, peers: Peers) -> Losses:
        config = self.config
        pairs = self.contrastive.loss(features["image"], features["text"], peers)
        captions = captioning(features["losses"], features["tokens"], peers)
        total = config.pairs_weight * pairs + config.captions_weight * captions
        losses = scalars(loss=total, pairs=pairs, captions=captions)
        return Losses(total, losses | self.contrastive.metrics())

    def before_step(self) -> None:
        self.contrastive.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        self.contrastive.after_step()
