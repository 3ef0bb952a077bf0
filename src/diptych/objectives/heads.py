"""Small networks between the towers and a loss. They belong to training and never reach an exported
model.

Those with batch normalisation are applied to all of a step's samples at once: see `Objective.loss`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from diptych.config import SelfSupervisionConfig, SimClrConfig, SimSiamConfig
from diptych.distributed import OwnBatchNorm1d, Peers
from diptych.objectives.selfsup import nt_xent, simsiam


class SimClr(nn.Module):
    """Both views through three layers, then `nt_xent` (SLIP, Mu et al. 2021, arXiv:2112.12750)."""

    def __init__(self, config: SimClrConfig, width: int):
        super().__init__()
        self.temperature = config.temperature
        self.head = nn.Sequential(
            *_layer(config, width, config.hidden),
            *_layer(config, config.hidden, config.hidden),
            nn.Linear(config.hidden, config.out),
        )

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Tensor:
        """The loss of two views of n pictures."""
        return nt_xent(self.head(first), self.head(second), self.temperature, peers)


class SimSiam(nn.Module):
    """Each view is projected, and foretells the other (Chen & He 2020, arXiv:2011.10566); sizes as
    in DeCLIP."""

    def __init__(self, config: SimSiamConfig, width: int):
        super().__init__()
        self.projector = nn.Sequential(
            *_layer(config, width, config.width),
            *_layer(config, config.width, config.width),
            nn.Linear(config.width, config.width),
            _norm(config, config.width),
        )
        self.predictor = nn.Sequential(
            *_layer(config, config.width, config.hidden), nn.Linear(config.hidden, config.width)
        )

    def forward(
        self, first: Float[Tensor, "n width"], second: Float[Tensor, "n width"], peers: Peers
    ) -> Tensor:
        """The loss of two views of n pictures."""
        seen = self.projector(first), self.projector(second)
        return simsiam((self.predictor(seen[0]), self.predictor(seen[1])), seen)


def build_self_supervision(config: SelfSupervisionConfig, width: int) -> SimClr | SimSiam:
    """The part that `config` names, for vectors of `width`."""
    match config:
        case SimClrConfig():
            return SimClr(config, width)
        case SimSiamConfig():
            return SimSiam(config, width)


def _layer(config: SelfSupervisionConfig, width: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, out), _norm(config, out), nn.ReLU(inplace=True)


def _norm(config: SelfSupervisionConfig, width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width) if config.share_statistics else OwnBatchNorm1d(width)
