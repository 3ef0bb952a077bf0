"""UniRepLKNet, a ConvNet of large kernels, to train and to deploy (Ding et al. 2024,
arXiv:2311.15599).

The training form has what makes large kernels learn: dilated branches beside them, batch norms,
layer scale. All of it is linear in evaluation and merges into the convolutions: the deploy form is
the same function (`unireplknet.deploy`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
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


class UniRepLKNet(Tower[UniRepLKNetConfig]):
    """Stem and four stages of large-kernel blocks; the map's mean, normed, is projected. Pictures
    of any size.

    `embed_dim` None: an image tower alone, whose vectors are the normed mean.

    >>> import torch
    >>> from diptych.families.unireplknet import UniRepLKNetConfig
    >>> from diptych.families.unireplknet.model import UniRepLKNet
    >>> config = UniRepLKNetConfig(
    ...     depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), kernel_sizes=((3,), (13,), (13,), (13,))
    ... )
    >>> tower = UniRepLKNet(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 64, 96))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 6, 16]), torch.Size([2, 16]), torch.Size([2, 6]))
    """

    always_projects = False

    def __init__(self, config: UniRepLKNetConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.widths[-1]
        self.stages, channels, self.blocks = nn.ModuleList(), 3, []
        for kernels, w in zip(config.kernels, config.widths):
            down = Downsample(channels, w) if self.stages else Stem(channels, w)
            blocks = [
                ConvBlock(w, kernel, layer_scale=config.layer_scale, deploy=config.deploy)
                for kernel in kernels
            ]
            self.stages.append(Stage(down, blocks))
            self.blocks += blocks
            channels = w
        self.norm_post = nn.LayerNorm(width, EPS)
        self.projection = (
            nn.Identity()
            if embed_dim is None
            else nn.Linear(width, embed_dim, bias=config.projection_bias)
        )

    def init(self) -> None:
        """Fill every parameter, as the published code does.

        | parameter                             | value                                   |
        | ------------------------------------- | --------------------------------------- |
        | convolutions, linear layers           | N(0, 0.02^2), biases 0                  |
        | layer norms, batch norms              | gain 1, bias 0, no statistics yet       |
        | response_norm                         | gain 0, bias 0: it starts as identity   |
        | blocks' scale                         | `config.layer_scale`                    |
        """
        for module in self.modules():
            match module:
                case nn.Conv2d() | nn.Linear():
                    nn.init.normal_(module.weight, std=0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                case nn.LayerNorm() | nn.BatchNorm2d():
                    module.reset_parameters()
                case ResponseNorm():
                    for parameter in module.parameters():
                        nn.init.zeros_(parameter)
                case ConvBlock(scale=nn.Parameter() as scale, layer_scale=float() as value):
                    nn.init.constant_(scale, value)
                case _:  # has parameters only in its parts
                    pass

    def forward(
        self, x: Float[Tensor, "batch 3 height wide"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Pixels to the last stage's map, in reading order, feature and pooled vector. The feature
        is the map's mean behind the final norm, which was trained on that mean alone."""
        # Depthwise convolutions, layer norms and linear layers all read a position's channels side
        # by side.
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
        x = x.permute(0, 2, 3, 1).flatten(1, 2)
        feature = self.norm_post(x.mean(dim=1))
        chosen = self._select(x, tokens, self.norm_post, self.projection)
        return TowerOutput(chosen, feature, self.projection(feature))

    @property
    def layers(self) -> int:
        """Three blocks of the long third stage count as one layer, as do those of every other stage
        together."""
        return 5 + (self.config.depths[2] - 1) // 3

    def layer_of(self, name: str) -> int:
        """The published fine-tuning's layers: the stem; the first stage; the second; the step down
        to the third; every three blocks of it; the fourth stage; what is behind. Raises KeyError
        for a name that isn't a parameter."""
        first, second, third, fourth = (stage for stage in self.stages if isinstance(stage, Stage))
        parts = [(first.down, 0), (first.blocks, 1), (second, 2), (third.down, 3)]
        parts += [(block, 3 + i // 3) for i, block in enumerate(third.blocks)]
        parts += [
            (fourth, self.layers - 1),
            (self.norm_post, self.layers),
            (self.projection, self.layers),
        ]
        depth_of: dict[nn.Parameter, int] = {}
        for part, depth in parts:
            depth_of |= dict.fromkeys(part.parameters(), depth)
        return depth_of[dict(self.named_parameters())[name]]

    def flops(self) -> int:
        """Of `forward` for one picture of `config.image_size`; a multiply-add counts two."""
        side, total = self.config.image_size, _matrices(self.projection)
        for stage in self.stages:
            assert isinstance(stage, Stage)
            for module in stage.down.modules():
                if isinstance(module, nn.Conv2d):  # each halves the side
                    side = (side + 1) // 2
                    total += side**2 * _matrices(module)
            for block in stage.blocks:
                assert isinstance(block, ConvBlock)
                once = _matrices(block.excite)
                total += side**2 * (_matrices(block) - once) + once
        return 2 * total


def _matrices(module: nn.Module) -> int:
    """Weights of the convolutions and linear layers within."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))


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
