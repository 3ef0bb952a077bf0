"""How whole pictures and captions are contrasted: the part that objectives share, and the objective
that is nothing else."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.components import import_object
from diptych.config import ClipObjectiveConfig, ContrastiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.info_nce import tiled_info_nce
from diptych.objectives.sigmoid_loss import tiled_sigmoid_loss


class Contrastive:
    """The contrast of pairs: a loss of unit vectors, and all that concerns the model's scale and
    bias, which it alone uses and limits.

    It is no module: the model belongs to the objective, whose state must name it once.
    """

    def __init__(self, model: Clip):
        self.model = model

    def loss(
        self,
        images: Float[Tensor, "pairs width"],
        texts: Float[Tensor, "pairs width"],
        peers: Peers,
    ) -> Float[Tensor, ""]:
        """Of unit vectors, row i of one belonging to row i of the other, against everybody's."""
        raise NotImplementedError

    def scale(self) -> Float[Tensor, "1"]:
        """The factor on cosine similarities, the inverse of the temperature."""
        return self.model.logit_scale.exp()

    def metrics(self) -> dict[str, Tensor]:
        """For the record: the model's scale, and its bias if it has one."""
        found = scalars(scale=self.model.logit_scale.exp())
        if self.model.logit_bias is not None:
            # A copy: the parameter itself would be read after the optimiser's step, and the scale
            # is that of before it.
            found |= scalars(bias=self.model.logit_bias.clone())
        return found

    def before_step(self) -> None:
        """As `Objective.before_step`."""

    def after_step(self) -> None:
        """As `Objective.after_step`: limits are kept here."""


class InfoNce(Contrastive):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020); `info_nce` is the equation."""

    def __init__(self, config: ClipObjectiveConfig, model: Clip):
        super().__init__(model)
        self.config = config
        # Softmax doesn't see what is added to all logits: a bias would have no gradient.
        if model.logit_bias is not None:
            model.logit_bias.requires_grad_(False)

    def loss(
        self,
        images: Float[Tensor, "pairs width"],
        texts: Float[Tensor, "pairs width"],
        peers: Peers,
    ) -> Float[Tensor, ""]:
        smoothing, tile = self.config.label_smoothing, self.config.tile
        return tiled_info_nce(
            images, texts, self.scale(), label_smoothing=smoothing, tile=tile, peers=peers
        )

    def clamp(self) -> None:
        """Keep the scale within its limits."""
        # Unlimited, it grows as pairs are separated, until rounding and one wrong pair decide the
        # gradient (arXiv:2103.00020, §2.5).
        config = self.config
        clamp_scale(self.model.logit_scale, config.min_logit_scale, config.max_logit_scale)

    def after_step(self) -> None:
        self.clamp()


class Sigmoid(Contrastive):
    """The pairwise sigmoid loss (Zhai et al. 2023, arXiv:2303.15343); `sigmoid_loss` is the
    equation.

    Raises ConfigError for a model without a `logit_bias`.
    """

    def __init__(self, config: SiglipObjectiveConfig, model: Clip):
        super().__init__(model)
        self.tile = config.tile
        if model.logit_bias is None:
            raise ConfigError(
                "the SigLIP objective needs a model with a logit_bias (SigLIP starts it at -10)"
            )

    def loss(
        self,
        images: Float[Tensor, "pairs width"],
        texts: Float[Tensor, "pairs width"],
        peers: Peers,
    ) -> Float[Tensor, ""]:
        assert self.model.logit_bias is not None
        return tiled_sigmoid_loss(
            images, texts, self.scale(), self.model.logit_bias, tile=self.tile, peers=peers
        )


class ContrastiveObjective(Objective):
    """CLIP and SigLIP: the contrast of whole pictures with whole captions, and nothing else.

    A model with a `logit_bias` keeps it as it is under CLIP's loss; SigLIP's needs one.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.config import ClipObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import build
    >>> from diptych.objectives import ContrastiveObjective
    >>> objective = ContrastiveObjective(ClipObjectiveConfig(), build(pretrained.get("tiny")))
    >>> losses = objective.loss({"image": torch.eye(3), "text": torch.eye(3)}, Peers())
    >>> sorted(losses.metrics)
    ['loss', 'scale']
    """

    def __init__(self, config: ContrastiveConfig, model: Clip):
        super().__init__(model)
        self.contrastive = build_contrastive(config, model)

    def loss(self, features: Features, peers: Peers) -> Losses:
        loss = self.contrastive.loss(features["image"], features["text"], peers)
        return Losses(loss, scalars(loss=loss) | self.contrastive.metrics())

    def before_step(self) -> None:
        self.contrastive.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        self.contrastive.after_step()


def build_contrastive(config: ContrastiveConfig, model: Clip) -> Contrastive:
    """The part that `config.contrastive` names, over `model`. Raises ConfigError if the model lacks
    what it needs."""
    return import_object(config.contrastive)(config, model)


@torch.no_grad()
def clamp_scale(scale: Tensor, least: float, most: float) -> None:
    """Keep exp(`scale`) within [least, most], in place."""
    scale.clamp_(math.log(least), math.log(most))
