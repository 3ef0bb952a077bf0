"""The small layers of open_clip's own transformers.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.config import Activation
from diptych.nn.mlp import QUICK
from diptych.nn.patch import PatchDropout as _PatchDropout

Layer = Callable[..., nn.Module]
"""A class of layers, or what makes one: of nothing (`act_layer`), of a width (`norm_layer`)."""


class LayerNorm(nn.LayerNorm):
    """In the precision of its weights, and back in that of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return super().forward(input.to(self.weight.dtype)).to(input.dtype)


LayerNormFp32 = LayerNorm
"""open_clip's other name, for models in half precision."""


class QuickGELU(nn.Module):
    """z * sigmoid(1.702 z)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of each number."""
        return x * torch.sigmoid(QUICK * x)


class LayerScale(nn.Module):
    """A learned factor on each channel of a branch (Touvron et al. 2021, arXiv:2103.17239).

    >>> import torch
    >>> from diptych.compat.transformer import LayerScale
    >>> LayerScale(2, init_values=0.5)(torch.ones(1, 2)).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, dim: int, init_values: float = 1e-5, inplace: bool = False):
        super().__init__()
        self.inplace = inplace
        """Whether the input itself is changed."""
        self.init_values = init_values
        self.gamma = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """`init_values`, each."""
        nn.init.constant_(self.gamma, self.init_values)

    def forward(self, x: Float[Tensor, "*tokens dim"]) -> Float[Tensor, "*tokens dim"]:
        """Of each token."""
        return x.mul_(self.gamma) if self.inplace else x * self.gamma


class PatchDropout(_PatchDropout):
    """Leaves `prob` of the patches out in training, but with `exclude_first_token` never the first
    token. Raises AssertionError, as open_clip does, for 1 and more.

    >>> import torch
    >>> from diptych.compat.transformer import PatchDropout
    >>> PatchDropout(0.5)(torch.zeros(2, 11, 8)).shape
    torch.Size([2, 6, 8])
    """

    def __init__(self, prob: float = 0.5, exclude_first_token: bool = True):
        if not 0 <= prob < 1:
            raise AssertionError(f"PatchDropout: prob {prob} must lie from 0 to below 1")
        super().__init__(prob)
        self.exclude_first_token = exclude_first_token

    @property
    def prob(self) -> float:
        """What is left out."""
        return self.share

    @prob.setter
    def prob(self, prob: float) -> None:
        self.share = prob

    def numbers(
        self, batch: int, patches: int, device: torch.device
    ) -> Float[Tensor, "batch patches"]:
        """Those that open_clip draws: the same seed leaves the same patches out."""
        return torch.randn(batch, patches).to(device)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch kept width"]:
        """The kept tokens."""
        if not self.exclude_first_token:
            return super().forward(x)
        if not self.training or self.share == 0:
            return x
        return torch.cat([x[:, :1], super().forward(x[:, 1:])], dim=1)


def scale_layer(dim: int, init_values: float | None) -> nn.Module:
    """A `LayerScale`; None: the branch as it is."""
    return nn.Identity() if init_values is None else LayerScale(dim, init_values)


def activation_layer(kind: Activation) -> Layer:
    """What open_clip builds for this activation."""
    if kind == "quick_gelu":
        return QuickGELU
    return functools.partial(nn.GELU, "tanh") if kind == "gelu_tanh" else nn.GELU


def norm_layer_of(eps: float) -> Layer:
    """A `LayerNorm` of this epsilon."""
    return functools.partial(LayerNorm, eps=eps)


def weight_dtype(layer: Any) -> torch.dtype:
    """Of a layer's matrix."""
    return layer.weight.dtype
