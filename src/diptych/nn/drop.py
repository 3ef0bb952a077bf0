"""Parts of a network left out at random, in training."""

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, a residual branch is left out for a share `rate` of the samples, and the others'
    is scaled up so that the expectation stays (Huang et al. 2016, arXiv:1603.09382).

    >>> import torch
    >>> from diptych.nn import StochasticDepth
    >>> sorted(set(StochasticDepth(0.5)(torch.ones(100, 3)).flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[batch, ...] -> the same shape; in evaluation, `x` itself."""
        if not self.training or not self.rate:
            return x
        # One draw for a sample's whole branch. Kept ones are divided by `keep`: the mean is then
        # x * keep / keep = x, and evaluation needs no factor.
        keep = 1 - self.rate
        kept = torch.rand([len(x)] + [1] * (x.ndim - 1), device=x.device) < keep
        return x * (kept / keep).to(x.dtype)
