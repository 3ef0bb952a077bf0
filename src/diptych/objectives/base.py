"""What every objective is: the owner of a model, a statement of the views it needs, and a loss."""

from collections.abc import Callable
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from diptych.batch import Batch, Views
from diptych.distributed import Peers
from diptych.models import Clip
from diptych.objectives.features import send, unit
from diptych.objectives.teacher import Teacher

_ALONE = Peers()
Features = dict[str, Tensor]
"""What the towers give for a batch: by name, batch first."""


class Losses(NamedTuple):
    """What an objective makes of a batch.

    `total`: what is minimised, a scalar with gradient. `metrics`: detached scalars that a run
    records in `metrics.jsonl`. `carry`: detached tensors that `after_step` needs, for objectives
    that remember something from step to step.
    """

    total: Tensor
    metrics: dict[str, Tensor]
    carry: dict[str, Tensor] = {}  # noqa: RUF012 (a NamedTuple's default; nobody writes into it)


class Cotangents(NamedTuple):
    """The loss's gradients: with respect to the features of a batch, and to parameters, by name,
    that it uses itself.

    `parameters` is empty for all micro-batches of a step but one.
    """

    features: Features
    parameters: dict[str, Tensor]


class Objective(nn.Module):
    """A loss over a model. The only module that is wrapped (DDP, FSDP) and the only one that the
    loop calls.

    The loss is split where a batch can be cut: `features` treats samples one by one, `loss`
    contrasts them. Gradient accumulation rests on it (Gao et al. 2021, arXiv:2101.06983):
    `objective(batch, peers)` gives the losses, and `objective(batch, peers, cotangents)` the sum of
    features and parameters times the given gradients, whose gradient is the chain rule's second
    half.

    An objective of your own is one file with two classes: a configuration, a subclass of
    `ObjectiveConfig` that names the other in its `implementation`; and that other one, a subclass
    of `Objective`, which is made of the configuration and a model, and writes

    * `loss(features, peers)`, a function of features of the local pairs, shape [pairs, ...]. It
      changes nothing. `peers` gathers everybody's rows; `Peers()` is the single process.
    * `views`, where it wants more of a pair than one plain picture and caption, and then `features`
      with what it needs of them.
    * `targets`, where something that isn't trained, such as a teacher, says what is to be learned.
    * `contrasts`, and `terms`, where the loss is a mean over the samples' own terms.
    * `before_step` and `after_step`, where something has to be kept within limits or remembered.

    Here one that asks only which caption belongs to a picture, not back, at a fixed temperature
    (ConVIRT, Zhang et al. 2020, arXiv:2010.00747, equation 2):

    >>> from dataclasses import dataclass
    >>> import torch
    >>> import torch.nn.functional as F
    >>> from diptych import pretrained
    >>> from diptych.batch import Batch
    >>> from diptych.config import ObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import Clip, build
    >>> from diptych.objectives import Features, Losses, Objective
    >>> from diptych.objectives.features import gather_with_gradient
    >>> @dataclass(frozen=True, kw_only=True)
    ... class OneWayConfig(ObjectiveConfig):
    ...     implementation = "one_way:OneWayObjective"  # these lines stand in one_way.py
    ...     temperature: float = 0.1
    >>> class OneWayObjective(Objective):
    ...     def __init__(self, config: OneWayConfig, model: Clip):
    ...         super().__init__(model)
    ...         self.temperature = config.temperature
    ...         model.logit_scale.requires_grad_(False)  # the loss doesn't use it
    ...
    ...     def loss(self, features: Features, peers: Peers) -> Losses:
    ...         images, texts = features["image"], gather_with_gradient(features["text"], peers)
    ...         own = torch.arange(len(images), device=images.device) + peers.rank * len(images)
    ...         loss = F.cross_entropy(images @ texts.T / self.temperature, own)
    ...         return Losses(loss, {"loss": loss.detach()})
    >>> objective = OneWayObjective(OneWayConfig(), build(pretrained.get("tiny")))
    >>> batch = Batch(images=(torch.rand(4, 3, 48, 48),), texts=(torch.arange(12).view(4, 3),),
    ...               index=torch.arange(4))
    >>> objective(batch, Peers()).total.backward()

    `diptych.fit(replace(run, objective=OneWayConfig()))` trains with it.
    """

    views = Views()
    contrasts: bool = True
    """Whether the loss compares samples with one another. Otherwise it is a mean over terms, of
    which each belongs to one sample (`terms`), and is accumulated without features being computed
    twice."""
    remarks: tuple[str, ...] = ()
    """What a user should know of how it fits its models."""
    _peers = _ALONE
    """With whom the loss will be of the features that are computed."""

    def __init__(self, model: Clip):
        super().__init__()
        self.model = model
        # A loss that compares tokens switches these on again. What no loss reaches must not be
        # trained: DDP expects the gradient of every parameter that is.
        model.train_tokens(False)
        if model.decoder is not None:
            model.decoder.requires_grad_(False)

    def features(self, batch: Batch) -> Features:
        """What the loss needs of each pair; here unit vectors: `image` and `text`, both
        Float[batch, embed_dim]."""
        text = self.send(unit(self.model.encode_text(batch.texts[0], lengths=batch.lengths_of(0))))
        return {"image": unit(self.model.encode_image(batch.images[0])), "text": text}

    def targets(self, batch: Batch) -> Features:
        """Further features, of which no gradient is wanted: what teachers say of each pair. They
        are asked once a step, in whichever way it is accumulated."""
        return {}

    def terms(self, batch: Batch) -> int:
        """Of a loss that contrasts no samples: how many terms of its mean these samples have."""
        return len(batch)

    @property
    def teachers(self) -> list[Teacher]:
        """The models in it that aren't trained."""
        return [module for module in self.modules() if isinstance(module, Teacher)]

    def send(self, rows: Tensor) -> Tensor:
        """For `features`: `rows`, which `loss` will gather, on their way to everybody while the
        rest is computed. So texts come first, and the image tower, the larger one, hides how long
        they travel."""
        return send(rows, self._peers)

    def loss(self, features: Features, peers: Peers) -> Losses:
        """The losses of the local rows against everybody's; their mean over processes is the
        batch's. A pure function, but for the running means of batch norms in its heads."""
        raise NotImplementedError

    @overload
    def forward(
        self, batch: Batch, peers: Peers, cotangents: Cotangents | None = None
    ) -> Losses: ...

    @overload
    def forward(self, batch: Callable[[], Any]) -> Any: ...

    def forward(
        self,
        batch: Batch | Callable[[], Any],
        peers: Peers = _ALONE,
        cotangents: Cotangents | None = None,
    ) -> Any:
        """Losses of one batch; with `cotangents`, the scalar whose gradient is the loss's (see the
        class).

        Given a function, what that gives: whatever touches parameters is computed within a call,
        because only there sharded ones are whole.
        """
        if not isinstance(batch, Batch):
            return batch()
        batch = batch.ready()
        if cotangents is None:
            features, targets = self.asked(batch, peers)
            return self.loss(features | targets, peers)
        features = self.features(batch)
        # d(f · g) = df · g for a constant g: the gradient of this sum is the towers' Jacobian
        # times dloss/dfeatures, which is dloss/dweights.
        parameters = dict(self.named_parameters())
        products = [
            (features[name] * gradient).sum() for name, gradient in cotangents.features.items()
        ]
        products += [
            (parameters[name] * gradient).sum() for name, gradient in cotangents.parameters.items()
        ]
        return Losses(torch.stack(products).sum(), {})

    def asked(self, batch: Batch, peers: Peers) -> tuple[Features, Features]:
        """Features and targets, of which `loss` with these peers is to be computed: what it will
        gather is on its way."""
        self._peers = peers
        try:
            return self.features(batch), self.targets(batch)
        finally:
            self._peers = _ALONE

    def before_step(self) -> None:
        """Called once a step, after the backward passes and before the optimiser's step."""

    def after_step(self, carry: dict[str, Tensor]) -> None:
        """Called once a step, after the optimiser's step, with what `loss` gave to carry: clamps,
        queues, teachers."""


def scalars(**values: Tensor) -> dict[str, Tensor]:
    """Metrics of losses and parameters of one element: detached and 0-dimensional."""
    return {name: value.detach().squeeze() for name, value in values.items()}
