"""What UniRepLKNet is made of, from its stem to its stages."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.nn.drop import StochasticDepth

BRANCHES = {
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
"""Size and dilation of the convolutions that are trained beside a large kernel."""
EPS = 1e-6
"""Of the layer norms and of the response norm; batch norms have torch's 1e-5."""
TINY = 1e-30
"""Keeps the gradient of a square root finite where a channel is 0 everywhere."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position of a map."""

    def __init__(self, channels: int):
        super().__init__(channels, EPS)

    def forward(self, input: Float[Tensor, "batch channels height wide"]) -> Tensor:
        """The same shape. A map in `channels_last` memory is normalised where it lies."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stem(nn.Module):
    """Two 3x3 convolutions of stride 2 with layer norms: a quarter of the side."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, width // 2, 3, stride=2, padding=1)
        self.norm_1 = ChannelNorm(width // 2)
        self.conv_2 = nn.Conv2d(width // 2, width, 3, stride=2, padding=1)
        self.norm_2 = ChannelNorm(width)

    def forward(self, x: Float[Tensor, "batch channels height wide"]) -> Tensor:
        """[batch, channels, h, w] -> [batch, width, h / 4, w / 4], rounded up."""
        return self.norm_2(self.conv_2(F.gelu(self.norm_1(self.conv_1(x)))))


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2, then a layer norm: half the side."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.norm = ChannelNorm(width)

    def forward(self, x: Float[Tensor, "batch channels height wide"]) -> Tensor:
        """[batch, channels, h, w] -> [batch, width, h / 2, w / 2], rounded up."""
        return self.norm(self.conv(x))


class Branch(nn.Module):
    """A dilated depthwise convolution and its batch norm."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        self.conv = _depthwise(width, kernel, dilation)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "batch width height wide"]) -> Tensor:
        """The same shape."""
        return self.norm(self.conv(x))


class LargeKernel(nn.Module):
    """A large depthwise convolution; in training form with a batch norm, and the sum of dilated
    branches added.

    A convolution of size k and dilation d is one of size d (k - 1) + 1 whose kernel has d - 1 zeros
    between its values. In evaluation a batch norm is a factor and an addend per channel. So each
    branch is itself a convolution with a bias, no larger than the dense one, and the sum of all is
    a single convolution: the deploy form, with the kernels padded to one size and added.
    """

    def __init__(self, width: int, kernel: int, deploy: bool):
        super().__init__()
        self.dense = _depthwise(width, kernel, bias=deploy)
        self.dense_norm = nn.Identity() if deploy else nn.BatchNorm2d(width)
        branches = () if deploy else BRANCHES[kernel]
        self.branches = nn.ModuleDict(
            {f"{size}_{step}": Branch(width, size, step) for size, step in branches}
        )

    def forward(self, x: Float[Tensor, "batch width height wide"]) -> Tensor:
        """The same shape."""
        # Small kernels beside a large one learn what is near, which a large one alone learns badly
        # (arXiv:2311.15599, §3.1); dilated ones what is far and sparse.
        y = self.dense_norm(self.dense(x))
        for branch in self.branches.values():
            y = y + branch(x)
        return y


class SqueezeExcite(nn.Module):
    """Channels are weighed by what the whole map holds (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, width: int):
        super().__init__()
        self.down = nn.Linear(width, width // 4)
        self.up = nn.Linear(width // 4, width)

    def forward(self, x: Float[Tensor, "batch width height wide"]) -> Tensor:
        """The same shape."""
        # Squeeze: the mean over positions. Excite: a gain in (0, 1) for each channel.
        gains = self.up(F.relu(self.down(x.mean((2, 3))))).sigmoid()
        return x * gains[:, :, None, None]


class ResponseNorm(nn.Module):
    """Global response normalisation: a channel's energy against the mean of all (Woo et al. 2023,
    arXiv:2301.00808)."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x: Float[Tensor, "batch height wide width"]) -> Tensor:
        """The same shape."""
        # gain * x * share + bias + x, as x * (gain * share + 1) + bias. A channel's share is its
        # energy over the mean of all: channels compete, which keeps them from all saying the same.
        energy = _energy(x)
        share = energy / (energy.mean(-1, keepdim=True) + EPS)
        gains = (self.gain * share + 1).to(x.dtype)
        return x * gains if self.bias is None else torch.addcmul(self.bias.to(x.dtype), x, gains)


class ConvBlock(nn.Module):
    """x + scale * f(x): positions are mixed by a depthwise convolution, then channels by a
    perceptron."""

    def __init__(self, width: int, kernel: int, *, layer_scale: float | None, deploy: bool):
        super().__init__()
        self.layer_scale = layer_scale
        self.mix = _mixer(width, kernel, deploy)
        self.mix_norm = nn.Identity() if deploy or not kernel else nn.BatchNorm2d(width)
        self.excite = SqueezeExcite(width)
        self.up = nn.Linear(width, 4 * width)
        self.response_norm = ResponseNorm(4 * width, bias=not deploy)
        self.down = nn.Linear(4 * width, width, bias=deploy)
        self.down_norm = nn.Identity() if deploy else nn.BatchNorm2d(width)
        self.scale = (
            nn.Parameter(torch.empty(width)) if layer_scale is not None and not deploy else None
        )
        self.drop = StochasticDepth()

    def forward(self, x: Float[Tensor, "batch width height wide"]) -> Tensor:
        """The same shape. The perceptron sees a map in `channels_last` memory as it lies."""
        y = self.excite(self.mix_norm(self.mix(x)))
        # Linear layers act on the last dimension; in `channels_last` memory the permutation to
        # [batch, h, w, channels] and back moves nothing.
        y = self.response_norm(F.gelu(self.up(y.permute(0, 2, 3, 1))))
        y = self.down_norm(self.down(y).permute(0, 3, 1, 2))
        return x + self.drop(y if self.scale is None else y * self.scale[:, None, None])


class Stage(nn.Module):
    """A smaller, wider map, then blocks."""

    def __init__(self, down: Stem | Downsample, blocks: list[ConvBlock]):
        super().__init__()
        self.down = down
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "batch channels height wide"]) -> Tensor:
        """[batch, channels, h, w] -> [batch, width, h', w']: see `Stem` and `Downsample`."""
        x = self.down(x)
        for block in self.blocks:
            x = block(x)
        return x


def _energy(x: Float[Tensor, "batch height wide width"]) -> Float[Tensor, "batch 1 1 width"]:
    """The length of each channel over all positions, in float32 at least: float16 would overflow
    over a large map.

    `vector_norm` reads half precision without a copy; elsewhere the plain sum makes the tower a
    tenth faster.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
    return x.square().sum((1, 2), keepdim=True).clamp(min=TINY).sqrt()


def _mixer(width: int, kernel: int, deploy: bool) -> nn.Module:
    """What mixes positions."""
    if kernel in BRANCHES:
        return LargeKernel(width, kernel, deploy)
    return _depthwise(width, kernel, bias=deploy) if kernel else nn.Identity()


def _depthwise(width: int, kernel: int, dilation: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution of every channel by itself that keeps the side."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        width, width, kernel, padding=padding, dilation=dilation, groups=width, bias=bias
    )
