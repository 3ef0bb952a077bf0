"""Small networks between the towers and a loss. They belong to training and never reach an exported
model.

Those with batch normalisation are applied to all of a step's samples at once: in `Objective.loss`,
not in `features`, which sees a micro-batch.
"""

from jaxtyping import Float
from torch import Tensor, nn

from diptych.components import implementation
from diptych.config import SelfSupervisionConfig, SimClrConfig, SimSiamConfig
from diptych.distributed import Peers
from diptych.objectives.self_supervision import nt_xent, simsiam

Norm = type[nn.BatchNorm1d]
"""Made of the width. Where there are several processes, all their samples give its statistics,
unless it is an `OwnBatchNorm1d`."""


class SelfSupervision(nn.Module):
    """What makes two views of a picture teach each other: made of a configuration and the width of
    the views' vectors."""

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Float[Tensor, ""]:
        """The loss of two views of n pictures."""
        raise NotImplementedError


class SimClr(SelfSupervision):
    """Both views through three layers, then `nt_xent` (SLIP, Mu et al. 2021, arXiv:2112.12750).

    `norm`: the head's batch normalisation.
    """

    def __init__(self, config: SimClrConfig, width: int, norm: Norm = nn.BatchNorm1d):
        super().__init__()
        self.temperature = config.temperature
        self.head = nn.Sequential(
            *_layer(width, config.hidden, norm),
            *_layer(config.hidden, config.hidden, norm),
            nn.Linear(config.hidden, config.out),
        )

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Float[Tensor, ""]:
        return nt_xent(self.head(first), self.head(second), self.temperature, peers)


class SimSiam(SelfSupervision):
    """Each view is projected, and predicts the other (Chen & He 2020, arXiv:2011.10566); sizes as
    in DeCLIP.

    `norm`: the head's batch normalisation.
    """

    def __init__(self, config: SimSiamConfig, width: int, norm: Norm = nn.BatchNorm1d):
        super().__init__()
        self.projector = nn.Sequential(
            *_layer(width, config.width, norm),
            *_layer(config.width, config.width, norm),
            nn.Linear(config.width, config.width),
            norm(config.width),
        )
        # A bottleneck, and no norm behind its last layer: with one, training is unstable
        # (arXiv:2011.10566, table 3).
        self.predictor = nn.Sequential(
            *_layer(config.width, config.hidden, norm), nn.Linear(config.hidden, config.width)
        )

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Float[Tensor, ""]:
        projected = self.projector(first), self.projector(second)
        predicted = self.predictor(projected[0]), self.predictor(projected[1])
        return simsiam(predicted, projected)


def build_self_supervision(config: SelfSupervisionConfig, width: int) -> SelfSupervision:
    """The part that `config` names, for vectors of `width`."""
    return implementation(config)(config, width)


def _layer(width: int, out: int, norm: Norm) -> tuple[nn.Module, ...]:
    return nn.Linear(width, out), norm(out), nn.ReLU(inplace=True)
