"""CLIP's modified ResNet (Radford et al. 2021, arXiv:2103.00020 §2.4; He et al. 2019,
arXiv:1812.01187; Zhang 2019, arXiv:1904.11486)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.clip import ResNetConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn.patch import ConvNorm


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut; a stride is an average pool before a convolution of stride
    1.

    A convolution of stride 2 keeps every other value of its output, and what varies faster than
    that is folded into lower frequencies (aliasing): the output changes when the picture moves by a
    pixel. The average pool dampens those frequencies first (Zhang 2019, arXiv:1904.11486).
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        out = width * self.expansion
        self.stride = stride
        self.conv_1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(width)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm_2 = nn.BatchNorm2d(width)
        self.conv_3 = nn.Conv2d(width, out, 1, bias=False)
        self.norm_3 = nn.BatchNorm2d(out)
        self.downsample = ConvNorm(channels, out, 1) if stride > 1 or channels != out else None

    def forward(self, x: Float[Tensor, "batch channels height wide"]) -> Tensor:
        """[batch, channels, h, w] -> [batch, 4 * width, h / stride, w / stride]."""
        y = F.relu(self.norm_1(self.conv_1(x)), inplace=True)
        y = F.relu(self.norm_2(self.conv_2(y)), inplace=True)
        y = self.norm_3(self.conv_3(_shrink(y, self.stride)))
        if self.downsample is not None:
            # ResNet-D: a 1x1 convolution of stride 2 would never read three quarters of the map
            # (He et al. 2019, arXiv:1812.01187, §4).
            x = self.downsample(_shrink(x, self.stride))
        return F.relu(y.add_(x), inplace=True)

    def init(self) -> None:
        """Convolutions: N(0, 2 / fan in) (He et al. 2015, arXiv:1502.01852). Norms: gain 1, bias 0;
        the last gain 0: a block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677,
        §5.1)."""
        for conv in (self.conv_1, self.conv_2, self.conv_3):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        for norm in (self.norm_1, self.norm_2, self.norm_3):
            norm.reset_parameters()
        nn.init.zeros_(self.norm_3.weight)
        if self.downsample is not None:
            self.downsample.init()


class AttentionPool(nn.Module):
    """Multi-head attention with one query, the grid's mean; keys and values are of the mean and of
    the grid. Then a projection."""

    def __init__(self, tokens: int, width: int, heads: int, embed_dim: int):
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.empty(1 + tokens, width))
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.projection = nn.Linear(width, embed_dim)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], values: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What attention gives for the query [batch, width], and its projection [batch, embed_dim];
        with `values`, what it would give if it attended to each token alone, the mean left out:
        [batch, tokens, width] and [batch, tokens, embed_dim]."""
        if values:
            read = self.v(x + self.positions[1:])
            return read, self.projection(read)
        # The mean goes through as a token of its own, with a position: the first, as a class token.
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positions
        # [batch, tokens, width] -> [batch, heads, tokens, channels of a head]
        q, k, v = (
            linear(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, y in ((self.q, x[:, :1]), (self.k, x), (self.v, x))
        )
        read = F.scaled_dot_product_attention(q, k, v).flatten(1)
        return read, self.projection(read)

    def init(self) -> None:
        """Positions and matrices: N(0, 1 / width). Biases: 0."""
        std = self.q.in_features**-0.5
        nn.init.normal_(self.positions, std=std)
        for linear in (self.q, self.k, self.v, self.projection):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)


class ResNet(Tower[ResNetConfig]):
    """Three-convolution stem, four stages of bottlenecks, attention pool.

    >>> import torch
    >>> from diptych.families.clip import ResNetConfig
    >>> from diptych.families.clip.resnet import ResNet
    >>> config = ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8, heads=4)
    >>> tower = ResNet(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 64, 64))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 4, 256]), torch.Size([2, 256]), torch.Size([2, 6]))
    """

    def __init__(self, config: ResNetConfig, embed_dim: int):
        super().__init__()
        self.config = config
        w = config.width
        self.width = 8 * w * Bottleneck.expansion
        self.stem = nn.ModuleList(
            [ConvNorm(3, w // 2, 3, stride=2), ConvNorm(w // 2, w // 2, 3), ConvNorm(w // 2, w, 3)]
        )
        self.stages, channels = nn.ModuleList(), w
        self.blocks = []
        for i, layers in enumerate(config.layers):
            stage = nn.Sequential()
            for j in range(layers):
                stage.append(Bottleneck(channels, w * 2**i, stride=2 if i > 0 and j == 0 else 1))
                channels = w * 2**i * Bottleneck.expansion
            self.stages.append(stage)
            self.blocks += list(stage)
        behind = config.head == "linear"
        pooled = self.width if behind else embed_dim
        self.pool = AttentionPool((config.image_size // 32) ** 2, self.width, config.heads, pooled)
        self.projection = nn.Linear(self.width, embed_dim) if behind else None
        _channels_last(self)
        self.register_load_state_dict_post_hook(_channels_last)

    def init(self) -> None:
        """Fill every parameter: see `ConvNorm.init`, `Bottleneck.init` and `AttentionPool.init`; a
        linear layer behind the pool as the pool's."""
        for part in (*self.stem, *self.blocks, self.pool):
            assert isinstance(part, ConvNorm | Bottleneck | AttentionPool)
            part.init()
        if self.projection is not None:
            nn.init.normal_(self.projection.weight, std=self.width**-0.5)
            nn.init.zeros_(self.projection.bias)

    def forward(
        self, x: Float[Tensor, "batch 3 height wide"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Pixels to the last stage's grid, in reading order, feature and pooled vector. The feature
        is the attention pool's vector before the last projection. There are only raw tokens: the
        grid has no norm."""
        self._check_pictures(x, self.config.image_size)
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = F.relu(layer(x), inplace=True)
        x = _shrink(x, 2)
        for stage in self.stages:
            x = stage(x)
        x = x.flatten(2).transpose(1, 2)
        feature, pooled = self.pool(x)
        if self.projection is not None:  # the pool's own projection is then an inner layer
            feature, pooled = pooled, self.projection(pooled)
        return TowerOutput(self._select(x, tokens), feature, pooled)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What the pool would give if it attended to this place alone (MaskCLIP: Zhou et al. 2022,
        arXiv:2112.01071): the pooled vector is a weighted mean of these, head by head."""
        _, pooled = self.pool(self(pixels).tokens, values=True)
        return pooled if self.projection is None else self.projection(pooled)

    def flops(self) -> int:
        """Of `forward` for one picture; a multiply-add counts two."""
        w, side = self.config.width, self.config.image_size // 2
        total = 2 * side**2 * 9 * (3 * w // 2 + w**2 // 4 + w**2 // 2)
        side //= 2
        for block in self.blocks:
            assert isinstance(block, Bottleneck)
            wide, narrow = side, side // block.stride
            total += 2 * wide**2 * (block.conv_1.weight.numel() + block.conv_2.weight.numel())
            total += 2 * narrow**2 * block.conv_3.weight.numel()
            if block.downsample is not None:
                total += 2 * narrow**2 * block.downsample.conv.weight.numel()
            side = narrow
        # The pool: keys and values of all tokens, one query, scores and their sum of values.
        tokens, c = side**2 + 1, self.width
        linears = (layer for layer in (self.pool.projection, self.projection) if layer is not None)
        total += sum(2 * layer.weight.numel() for layer in linears)
        return total + 2 * (2 * tokens + 1) * c**2 + 4 * tokens * c


def _channels_last(tower: nn.Module, _: Any = None) -> None:
    """Lay convolutions out as the kernels read them: a quarter faster; loading may have brought
    another layout."""
    tower.to(memory_format=torch.channels_last)


def _shrink(x: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(x, factor) if factor > 1 else x
