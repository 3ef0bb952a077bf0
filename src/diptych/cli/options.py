"""Flags that several verbs share."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how the model computes."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the towers."""
    batch_size: int = 64
    """Pictures that the tower sees at a time."""
