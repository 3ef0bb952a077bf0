"""A tower that another runtime computes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diptych.config import TowerConfig
from diptych.errors import ConfigError
from diptych.models.tower import TokenKind, Tower, TowerOutput

Runtime = Callable[[Tensor], Tensor]
"""Pixels or token ids on the CPU to unit vectors on the CPU."""


class ExportedTower(Tower[TowerConfig]):
    """It has no parameters: its program is in a file, of which it keeps the sha256, so that models
    of other files have other states. It gives vectors alone, and is refused where anything else is
    asked of it, so that nobody else has to ask.

    >>> import torch
    >>> from diptych.export.tower import ExportedTower
    >>> from diptych.families.clip import VitConfig
    >>> tower = ExportedTower(VitConfig(), lambda pixels: pixels.mean((2, 3)), "ab" * 32, "onnx")
    >>> tower(torch.ones(2, 3, 4, 4), tokens="none").pooled.shape
    torch.Size([2, 3])
    """

    always_projects = False
    width = 0

    def __init__(self, config: TowerConfig, runtime: Runtime, sha256: str, kind: str):
        super().__init__()
        self.config = config
        self.blocks = []
        self._run, self._kind = runtime, kind
        self.sha256: Tensor
        digest = torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)
        self.register_buffer("sha256", digest)

    def init(self) -> None:
        """There is nothing to fill."""

    def forward(self, x: Tensor, tokens: TokenKind = "raw", *more: Any) -> TowerOutput:
        """Unit vectors, as feature and as pooled vector. Raises ConfigError where tokens are asked
        for."""
        if tokens != "none":
            raise ConfigError(
                f"this model was exported (to {self._kind}), and gives vectors alone; what looks "
                "into a tower or trains it needs the model that it was made of"
            )
        vectors = self._run(x)
        return TowerOutput(vectors.new_empty(len(vectors), 0, 0), vectors, vectors)

    def flops(self) -> int:
        """Raises ConfigError: only its runtime knows."""
        raise ConfigError("the operations of an exported tower can't be counted")
