"""Coordinates of features in which softmax regression is nearly round, and the types of numbers in
which it is solved."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_PIECE = 2**21
"""Numbers of the features that are centred at a time."""


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Where features have mean zero and a diagonal covariance. Any will do for the optimum; good
    ones are fast."""

    mean: Float[Tensor, " width"]
    axes: Float[Tensor, "width width"]
    """orthogonal; one axis a column"""
    spectrum: Float[Tensor, " width"]
    """variance along each axis"""

    @classmethod
    def of(cls, features: Float[Tensor, "n width"]) -> "Coordinates":
        """Of the features' mean and covariance.

        >>> import torch
        >>> from diptych.evaluation.coordinates import Coordinates
        >>> Coordinates.of(torch.tensor([[0.0, 3.0], [0.0, 1.0]])).spectrum.tolist()
        [0.0, 1.0]
        """
        width, precise, working = features.shape[1], precise_type(features), working_type(features)
        mean = features.mean(0, dtype=precise)
        # Centred first, then multiplied: E[x x'] - mean mean' would lose all digits where the mean
        # is large beside the deviations, as it is for the vectors of a tower.
        covariance = torch.zeros(width, width, dtype=precise, device=features.device)
        for rows in features.split(max(1, _PIECE // width)):
            centred = rows.to(working) - mean.to(working)
            covariance += centred.T @ centred
        spectrum, axes = torch.linalg.eigh(covariance / len(features))
        # Rounding can leave a variance of zero slightly below it.
        return cls(mean=mean, axes=axes, spectrum=spectrum.clamp(min=0))

    def to_features(self, theta: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
        """Weights and, in the last row, biases that give the same logits from the features
        themselves."""
        # With z = axes' (x - mean): theta' z + b = (axes theta)' x + (b - mean' axes theta).
        weights = self.axes @ theta[:-1]
        return torch.cat([weights, theta[-1:] - self.mean[None] @ weights])

    def from_features(self, theta: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
        """The inverse of `to_features`."""
        bias = theta[-1:] + self.mean[None] @ theta[:-1]
        return torch.cat([self.axes.T @ theta[:-1], bias])

    def pull(self, gradient: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
        """A gradient by the features' weights and biases in these coordinates: `to_features`,
        transposed."""
        # The chain rule: where parameters are mapped by A, gradients are mapped back by A'.
        centred = gradient[:-1] - self.mean[:, None] * gradient[-1:]
        return torch.cat([self.axes.T @ centred, gradient[-1:]])


def working_type(features: Tensor) -> torch.dtype:
    """float32, unless the features are in float64."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def quick_type(features: Tensor) -> torch.dtype:
    """bfloat16, where matrices are multiplied in it by the hardware; else the working type."""
    if features.dtype == torch.float64 or not _multiplies_bfloat16(features.device):
        return working_type(features)
    return torch.bfloat16


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # torch 2.9 has no list of a processor's capabilities.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and any(
        capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16")
    )


def precise_type(features: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if features.device.type == "mps" else torch.float64
