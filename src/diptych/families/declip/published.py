"""What DeCLIP's code does and we don't think sound: the objectives of `published_config`."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.distributed import OwnBatchNorm1d, Peers
from diptych.families.declip.published_config import (
    LocalNormSimClrConfig,
    PublishedClipObjectiveConfig,
    PublishedDeclipObjectiveConfig,
    PublishedFilipObjectiveConfig,
    PublishedSimSiamConfig,
    PublishedTokenPairsConfig,
)
from diptych.models import Clip
from diptych.objectives import DeclipObjective, DefilipObjective, FilipObjective
from diptych.objectives.contrastive import InfoNce
from diptych.objectives.heads import SimClr, SimSiam
from diptych.objectives.queue import Queue
from diptych.objectives.token_pairs import TokenPairs


class PublishedInfoNce(InfoNce):
    """InfoNCE with a limit on the scale that the loss uses, and clamped twice a step."""

    def __init__(self, config: PublishedClipObjectiveConfig, model: Clip):
        super().__init__(config, model)
        self.largest_scale_used = config.largest_scale_used
        self.clamps_before_step = config.clamp_before_step

    def scale(self) -> Float[Tensor, "1"]:
        scale = super().scale()
        if self.largest_scale_used is None:
            return scale
        # Straight-through: the value is the limited one, the gradient that of the scale as it is.
        return scale - (scale - scale.clamp(max=self.largest_scale_used)).detach()

    def before_step(self) -> None:
        if self.clamps_before_step:
            self.clamp()


class PublishedTokenPairs(TokenPairs):
    """Patches against words with a scale that is clamped twice a step."""

    def __init__(self, config: PublishedTokenPairsConfig, model: Clip):
        super().__init__(config, model)
        self.clamps_before_step = config.clamp_before_step

    def before_step(self) -> None:
        if self.clamps_before_step:
            self.clamp()


class PublishedSimSiam(SimSiam):
    """SimSiam whose batch norms see this process's samples alone."""

    def __init__(self, config: PublishedSimSiamConfig, width: int):
        super().__init__(
            config, width, nn.BatchNorm1d if config.share_statistics else OwnBatchNorm1d
        )


class LocalNormSimClr(SimClr):
    """SimCLR whose batch norms see this process's samples alone."""

    def __init__(self, config: LocalNormSimClrConfig, width: int):
        super().__init__(config, width, OwnBatchNorm1d)


class LocalQueue(Queue):
    """Each process remembers its own texts.

    >>> import torch
    >>> from diptych.families.declip.published import LocalQueue
    >>> queue = LocalQueue(size=3, width=2)
    >>> for _ in range(2):
    ...     queue.push(torch.eye(2))
    >>> queue.rows[2], queue.place  # of the second pair the first row, and back to the start
    (tensor([1., 0.]), tensor(0))
    """

    def collect(self, texts: Float[Tensor, "n width"], peers: Peers) -> Tensor:
        return texts

    @torch.no_grad()
    def push(self, texts: Float[Tensor, "n width"]) -> None:
        """Remember these in place of the oldest, but for those that don't fit before the end."""
        super().push(texts[: len(self.rows) - int(self.place)])


class PublishedFilipObjective(FilipObjective):
    """FILIP of captions with masked words."""

    def __init__(self, config: PublishedFilipObjectiveConfig, model: Clip):
        super().__init__(config, model)
        if config.contrast_masked:
            self.views = replace(self.views, text=("masked",))


class PublishedDeclipObjective(DeclipObjective):
    """DeCLIP that contrasts masked captions, with a queue and a mean of masked words that are each
    process's own."""

    def __init__(self, config: PublishedDeclipObjectiveConfig, model: Clip):
        super().__init__(config, model, Queue if config.share_queue else LocalQueue)
        self.share_words = config.share_words
        if config.contrast_masked:
            self.views = replace(self.views, text=("masked", "augmented"))

    def masked_words(
        self, tokens: Float[Tensor, "n length width"], labels: Tensor, peers: Peers
    ) -> Float[Tensor, ""]:
        return super().masked_words(tokens, labels, peers if self.share_words else Peers())


class PublishedDefilipObjective(PublishedDeclipObjective, DefilipObjective):
    """As `PublishedDeclipObjective`, and patches against words."""
