"""The two-layer perceptron of a transformer block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.config import Activation


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the approximation that OpenAI's weights were trained with (Hendrycks & Gimpel 2016,
    arXiv:1606.08415).

    >>> import torch
    >>> from diptych.nn import quick_gelu
    >>> quick_gelu(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8458])
    """
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu": F.gelu, "quick_gelu": quick_gelu}


class Mlp(nn.Module):
    """Linear, activation, linear, over the last dimension.

    >>> import torch
    >>> from diptych.nn import Mlp
    >>> Mlp(width=8, hidden=32, activation="gelu")(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, hidden: int, activation: Activation):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return self.down(self.activation(self.up(x)))
