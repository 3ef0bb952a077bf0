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


class SelfSupervision(nn.Module):
    """What makes two views of a picture teach each other: made of a configuration and the width of
    the views' vectors."""

    def norm(self, width: int) -> nn.BatchNorm1d:
        """A batch normalisation of the head; all processes' samples give its statistics."""
        return nn.BatchNorm1d(width)

    def layer(self, width: int, out: int) -> tuple[nn.Module, ...]:
        """A hidden layer of the head."""
        return nn.Linear(width, out), self.norm(out), nn.ReLU(inplace=True)

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Float[Tensor, ""]:
        """The loss of two views of n pictures."""
        raise NotImplementedError


class SimClr(SelfSupervision):
    """Both views through three layers, then `nt_xent` (SLIP, Mu et al. 2021, arXiv:2112.12750)."""

    def __init__(self, config: SimClrConfig, width: int):
        super().__init__()
        self.temperature = config.temperature
        self.head = nn.Sequential(
            *self.layer(width, config.hidden),
            *self.layer(config.hidden, config.hidden),
            nn.Linear(config.hidden, config.out),
        )

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Float[Tensor, ""]:
        return nt_xent(self.head(first), self.head(second), self.temperature, peers)


class SimSiam(SelfSupervision):
    """Each view is projected, and predicts the other (Chen & He 2020, arXiv:2011.10566); sizes as
    in DeCLIP."""

    def __init__(self, config: SimSiamConfig, width: int):
        super().__init__()
        self.projector = nn.Sequential(
            *self.layer(width, config.width),
            *self.layer(config.width, config.width),
            nn.Linear(config.width, config.width),
            self.norm(config.width),
        )
        # A bottleneck, and no norm behind its last layer: with one, training is unstable
        # (arXiv:2011.10566, table 3).
        self.predictor = nn.Sequential(
            *self.layer(config.width, config.hidden), nn.Linear(config.hidden, config.width)
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
