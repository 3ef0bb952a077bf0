"""Which model made vectors."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.config import ClipConfig
from diptych.config.serialize import to_json


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The model that made vectors: only those of one identity can be compared."""

    name: str
    """What `diptych.load` was given; a local path is absolute."""
    dtype: str
    """Precision of the towers: fp32, bf16 or fp16."""
    fingerprint: str
    """sha256 of the configuration (preprocessing and tokenizer included) and the weights in that
    precision."""


def fingerprint(config: ClipConfig, weights: Mapping[str, Tensor]) -> str:
    """sha256 of a model's configuration and weights."""
    digest = hashlib.sha256(to_json(config, retired=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
