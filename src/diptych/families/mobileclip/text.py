"""MobileCLIP's text towers (Vasu et al. 2024, arXiv:2311.17049)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.config import Activation
from diptych.errors import ConfigError
from diptych.families.mobileclip.config import MobileTextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import Mlp, word_table
from diptych.nn.block import Block, block_flops, build_blocks, init_blocks

_SCALE = 1e-5
"""Of a convolutional block's branches, before training."""


class RepMixer(nn.Module):
    """A convolutional block over words: depthwise convolutions mix them, a perceptron mixes
    channels (FastViT, Vasu et al. 2023, arXiv:2303.14189; over texts in arXiv:2311.17049, §3.1).

    >>> import torch
    >>> from diptych.families.mobileclip.text import RepMixer
    >>> block = RepMixer(width=8, kernel=3, mlp_width=16, activation="gelu")
    >>> block(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, *, width: int, kernel: int, mlp_width: int, activation: Activation):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.skip = nn.BatchNorm1d(width)
        self.conv = _depthwise(width, kernel)
        self.conv_norm = nn.BatchNorm1d(width)
        self.mix_scale = nn.Parameter(torch.empty(width))
        self.mlp_conv = _depthwise(width, kernel)
        self.mlp_norm = nn.BatchNorm1d(width)
        self.channels = Mlp(width, mlp_width, activation)
        self.mlp_scale = nn.Parameter(torch.empty(width))

    def forward(
        self, x: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch length width"]:
        """The words, mixed."""
        x = x.transpose(1, 2)  # a convolution's words come last
        # One branch of the mixer only normalises, as what is taken from it does. In evaluation all
        # of this is linear in x, and could be one convolution.
        mixed = self.skip(x) + self.conv_norm(self.conv(x)) - self.norm(x)
        x = x + self.mix_scale[:, None] * mixed
        branch = self.channels(self.mlp_norm(self.mlp_conv(x)).transpose(1, 2))
        return x.transpose(1, 2) + self.mlp_scale * branch

    def init(self) -> None:
        """Fill every parameter, as the published code does (apple/ml-mobileclip).

        | parameter                      | value                                   |
        | ------------------------------ | --------------------------------------- |
        | conv.weight                    | uniform, variance 1 / (3 kernel)        |
        | mlp_conv.weight, of channels   | N(0, 0.02^2), biases 0                  |
        | norms                          | gain 1, bias 0                          |
        | mix_scale, mlp_scale           | 1e-5                                    |
        """
        self.conv.reset_parameters()
        for norm in (self.norm, self.skip, self.conv_norm, self.mlp_norm):
            norm.reset_parameters()
        for layer in (self.mlp_conv, self.channels.up, self.channels.down):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        for linear in (self.channels.up, self.channels.down):
            nn.init.zeros_(linear.bias)
        nn.init.constant_(self.mix_scale, _SCALE)
        nn.init.constant_(self.mlp_scale, _SCALE)

    def flops(self, length: int) -> int:
        """Over so many words of one text; a multiply-add counts two."""
        layers = (self.conv, self.mlp_conv, self.channels.up, self.channels.down)
        return 2 * length * sum(layer.weight.numel() for layer in layers)


def _depthwise(width: int, kernel: int) -> nn.Conv1d:
    return nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)


class MobileTextTower(Tower[MobileTextConfig]):
    """Each token sees all others; the vector is read at the end-of-text token, which has the
    vocabulary's highest id.

    Padding is seen, too, as it was in training: rows must have the context's whole length.

    >>> import torch
    >>> from diptych.families.mobileclip import MobileTextConfig
    >>> from diptych.families.mobileclip.text import MobileTextTower
    >>> config = MobileTextConfig(
    ...     context_length=4, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = MobileTextTower(config, embed_dim=6)
    >>> tower.init()
    >>> tower(torch.tensor([[8, 5, 9, 0]])).pooled.shape
    torch.Size([1, 6])
    """

    def __init__(self, config: MobileTextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.positions = nn.Parameter(torch.empty(config.context_length, width))
        self.tokens = word_table(config.vocab_size, width)
        self.blocks = build_blocks(config)
        if config.mixer_kernel:
            self.blocks = nn.ModuleList([self._mixer(), *self.blocks, self._mixer()])
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.projection = nn.Linear(width, embed_dim, bias=False)

    def _mixer(self) -> RepMixer:
        c = self.config
        return RepMixer(
            width=c.width, kernel=c.mixer_kernel, mlp_width=c.mlp_width, activation=c.activation
        )

    def init(self) -> None:
        """Fill every parameter, by CLIP's table (arXiv:2103.00020, published code).

        | parameter          | value                     |
        | ------------------ | ------------------------- |
        | tokens.weight      | N(0, 0.02^2)              |
        | positions          | N(0, 0.01^2)              |
        | blocks             | see `nn.block.init_blocks`, `RepMixer.init` |
        | norm_post          | gain 1, bias 0            |
        | projection.weight  | N(0, 1 / width)           |
        """
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        init_blocks([block for block in self.blocks if isinstance(block, Block)], self.width)
        for block in self.blocks:
            if isinstance(block, RepMixer):
                block.init()
        self.norm_post.reset_parameters()
        nn.init.normal_(self.projection.weight, std=self.width**-0.5)

    def forward(self, x: Int[Tensor, "batch length"], tokens: TokenKind = "raw") -> TowerOutput:
        """Padded ids to tokens, feature and pooled vector. The feature is the end-of-text token
        behind the final norm. With "none", a last block that attends computes that token only."""
        if x.shape[1] != self.config.context_length:
            raise ConfigError(
                f"{x.shape[1]} tokens; this tower sees padding, and takes texts padded to "
                f"{self.config.context_length}"
            )
        # The end of text has the highest id, and of several equal ones argmax finds the first.
        ends = (torch.arange(x.shape[0], device=x.device), x.argmax(dim=1))
        states = self.tokens(x) + self.positions
        *blocks, last = self.blocks
        for block in blocks:
            states = block(states)
        if tokens == "none" and isinstance(last, Block):
            states = read = last(states, pick=ends)
        else:
            states = last(states)
            read = states[ends]
        feature = self.norm_post(read)
        chosen = self._select(states, tokens, self.norm_post)
        return TowerOutput(chosen, feature, self.projection(feature))

    def flops(self) -> int:
        """Of `forward` for one caption; a multiply-add counts two."""
        c = self.config
        blocks = c.layers * block_flops(c.context_length, c.width, c.mlp_width)
        for block in self.blocks:
            if isinstance(block, RepMixer):
                blocks += block.flops(c.context_length)
        return blocks + 2 * self.projection.weight.numel()
