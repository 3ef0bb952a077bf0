"""UniRepLKNet, a ConvNet of large kernels, to train and to deploy (Ding et al. 2024,
arXiv:2311.15599).

The training form has what makes large kernels learn: dilated branches beside them, batch norms,
layer scale. All of it is linear in evaluation and merges into the convolutions: the deploy form is
the same function (`unireplknet.deploy`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.blocks import (
    EPS,
    ConvBlock,
    Downsample,
    ResponseNorm,
    Stage,
    Stem,
)
from diptych.models.tower import TokenKind, Tower, TowerOutput


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
