"""A tower that another runtime computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import TextTowerConfig, TowerConfig
from diptych.errors import ConfigError, first_line
from diptych.models.tower import TokenKind, Tower, TowerOutput

Runtime = Callable[[Tensor], Tensor]
"""Pixels or token ids on the CPU to unit vectors on the CPU."""


class Program:
    """The program in a file, opened anew where it is copied or unpickled: what a runtime holds
    can't travel to another process."""

    def __init__(self, open: Callable[[Path], Runtime], path: Path):
        self._open, self._path = open, path.absolute()
        self._run = open(path)

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x)

    def __reduce__(self) -> tuple[type["Program"], tuple[Callable[[Path], Runtime], Path]]:
        return Program, (self._open, self._path)


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
        for, and for what the program takes no such of."""
        if tokens != "none":
            raise ConfigError(
                f"this model was exported (to {self._kind}), and gives vectors alone; what looks "
                "into a tower or trains it needs the model that it was made of"
            )
        if isinstance(self.config, TextTowerConfig):
            _check_ids(x, self.config)
        try:
            vectors = self._run(x.detach())
        except Exception as error:  # the runtimes' own have no common base
            raise ConfigError(
                f"{self._kind} can't run this tower on an input of {tuple(x.shape)}: "
                f"{first_line(error)}"
            ) from error
        return TowerOutput(vectors.new_empty(len(vectors), 0, 0), vectors, vectors)

    def flops(self) -> int:
        """Raises ConfigError: only its runtime knows."""
        raise ConfigError("the operations of an exported tower can't be counted")


def _check_ids(ids: Tensor, config: TextTowerConfig) -> None:
    """Raises ConfigError for texts that the program wasn't made for: a runtime may answer them all
    the same, with nothing or with anything."""
    length, known = config.context_length, config.vocabulary
    if ids.shape[1] > length:
        most = f"at most {length} tokens" if config.padding == "ignored" else f"{length} tokens"
        raise ConfigError(f"texts of shape {tuple(ids.shape)}; this model takes [texts, {most}]")
    if known and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < known:
        raise ConfigError(
            f"ids from {int(ids.min())} to {int(ids.max())}; this model's vocabulary has {known}: "
            "are they of its own tokenizer?"
        )
