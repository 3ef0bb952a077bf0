"""The perceptrons of a transformer block."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.config import Activation
from diptych.nn.linear import is_bare

Nonlinear = Activation | Literal["relu", "relu2"]
"""What stands between the layers: what a configuration may ask for, and what some towers always
have."""
QUICK = 1.702
"""With it z * sigmoid(1.702 z) comes closest to GELU."""


class Mlp(nn.Module):
    """Linear, activation, linear, over the last dimension; before the last a norm, where one is
    given (not with `quick_gelu`, which needs the biases, too).

    `relu2` is max(z, 0)^2 (So et al. 2021, arXiv:2109.08668).
    `gelu_tanh` is GELU by its authors' approximation with a tanh, which SigLIP was trained with.
    `quick_gelu` is z * sigmoid(1.702 z), with which OpenAI's weights were trained (Hendrycks &
    Gimpel 2016, arXiv:1606.08415). It equals silu(1.702 z) / 1.702, and between bare linear layers
    both factors ride on the matrix products: one pass over the hidden layer and one tensor kept for
    the gradient, where the formula as written takes three.

    >>> import torch
    >>> from diptych.nn import Mlp
    >>> Mlp(width=8, hidden=32, activation="gelu")(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Nonlinear,
        norm: nn.Module | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        assert (norm is None and bias) or activation != "quick_gelu", (
            "the factor on the hidden layer would not pass a norm"
        )
        self.activation = activation
        self.up = nn.Linear(width, hidden, bias=bias)
        self.norm = norm or nn.Identity()
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        if self.activation in ("relu", "relu2"):
            hidden = F.relu(self.up(x))
            return self.down(self.norm(hidden if self.activation == "relu" else hidden.square()))
        if self.activation != "quick_gelu":
            approximate = "tanh" if self.activation == "gelu_tanh" else "none"
            return self.down(self.norm(F.gelu(self.up(x), approximate=approximate)))
        if not (is_bare(self.up) and is_bare(self.down)):
            z = self.up(x)
            return self.down(z * torch.sigmoid(QUICK * z))
        # silu(1.702 (W x + b)), then (V / 1.702) times it: `alpha` scales a product at no cost.
        hidden = F.silu(
            torch.addmm(QUICK * self.up.bias, x.flatten(0, -2), self.up.weight.T, alpha=QUICK)
        )
        return torch.addmm(self.down.bias, hidden, self.down.weight.T, alpha=1 / QUICK).view_as(x)


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202): down(norm(silu(gate(x)) * up(x))), gate and up in
    one product.

    >>> import torch
    >>> from diptych.nn import GatedMlp
    >>> GatedMlp(width=8, hidden=20)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self, width: int, hidden: int, norm: nn.Module | None = None, *, bias: bool = True
    ):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=bias)
        self.norm = norm or nn.Identity()
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        # SwiGLU(x) = (silu(x W) * x V) W2, equation 6; W and V are one product, so x is read once.
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.norm(F.silu(gate) * up))
