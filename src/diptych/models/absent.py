"""The tower that isn't there, in a model that is one tower alone."""

from typing import Any

from torch import Tensor

from diptych.config import ImageTowerConfig, TowerConfig
from diptych.config.alone import refusal
from diptych.errors import ConfigError
from diptych.models.tower import TokenKind, Tower, TowerOutput


class AbsentTower(Tower[TowerConfig]):
    """It has no parameters, and is refused when it is called, so that nobody else has to ask.

    >>> from diptych.config.alone import NoTextTower
    >>> from diptych.models import build_tower
    >>> sum(p.numel() for p in build_tower(NoTextTower(), 512).parameters())
    0
    """

    always_projects = False
    width = 0

    def __init__(self, config: TowerConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.blocks = []

    def init(self) -> None:
        """There is nothing to fill."""

    def forward(self, x: Tensor, tokens: TokenKind = "raw", *more: Any) -> TowerOutput:
        """Raises ConfigError."""
        raise ConfigError(refusal("image" if isinstance(self.config, ImageTowerConfig) else "text"))

    def flops(self) -> int:
        """None."""
        return 0
