"""TIPS's text tower (Maninis et al. 2024, arXiv:2410.16512; Cao et al. 2026, arXiv:2604.12012)."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.tips.config import TipsTextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import Block, word_table
from diptych.nn.block import block_flops, init_blocks
from diptych.nn.padding import mean_of_real

_SLOWEST = 10_000.0
"""The longest wave of the positions is 2 pi times as many tokens."""


def sinusoids(
    length: int, width: int, device: torch.device | None = None
) -> Float[Tensor, "length width"]:
    """Positions as sines, then cosines, of angles whose waves grow geometrically from 2 pi to 2 pi
    10,000 tokens, both ends included, as in tensor2tensor (Vaswani et al. 2017, arXiv:1706.03762,
    §3.5, but for the order of channels and the last wave).

    >>> from diptych.families.tips.text import sinusoids
    >>> sinusoids(2, 4)
    tensor([[0.0000e+00, 0.0000e+00, 1.0000e+00, 1.0000e+00],
            [8.4147e-01, 1.0000e-04, 5.4030e-01, 1.0000e+00]])
    """
    half = width // 2
    step = math.log(_SLOWEST) / max(half - 1, 1)
    rates = torch.exp(-step * torch.arange(half, device=device, dtype=torch.float32))
    places = torch.arange(length, device=device, dtype=torch.float32)
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TipsTextTower(Tower[TipsTextConfig]):
    """Each token sees all others but the padding; the vector is their mean behind the final norm.

    Its pooled vector is in the shared space as it is: it has no projection. Texts may be padded to
    any length.

    >>> import torch
    >>> from diptych.families.tips import TipsTextConfig
    >>> from diptych.families.tips.text import TipsTextTower
    >>> config = TipsTextConfig(
    ...     context_length=8, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = TipsTextTower(config, embed_dim=8)
    >>> tower.init()
    >>> short, long = torch.tensor([[8, 3, 9]]), torch.tensor([[8, 3, 9, 0, 0]])
    >>> bool(torch.allclose(tower(short).pooled, tower(long).pooled, atol=1e-6))
    True
    """

    always_projects = False

    @classmethod
    def check_projection(cls, config: TipsTextConfig, embed_dim: int | None) -> None:
        """Raises ConfigError for a shared space of another width than the tower's."""
        if embed_dim not in (None, config.width):
            raise ConfigError(
                f"TIPS's text tower has no projection: embed_dim must be its width, "
                f"{config.width}, and is {embed_dim}"
            )

    def __init__(self, config: TipsTextConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.tokens = word_table(config.vocab_size, width)
        self.blocks = nn.ModuleList(
            Block(
                width=width,
                heads=config.heads,
                mlp_width=config.mlp_width,
                activation="relu",
                eps=config.norm_eps,
            )
            for _ in range(config.layers)
        )
        self.norm_post = nn.LayerNorm(width, config.norm_eps)

    def init(self) -> None:
        """Fill every parameter: words such that they are as long as their positions once they are
        multiplied by sqrt(width), all else by CLIP's table.

        | parameter     | value             |
        | ------------- | ----------------- |
        | tokens.weight | N(0, 1 / width)   |
        | blocks        | see `init_blocks` |
        | norm_post     | gain 1, bias 0    |
        """
        nn.init.normal_(self.tokens.weight, std=self.width**-0.5)
        init_blocks(self.blocks, self.width)
        self.norm_post.reset_parameters()

    def embed(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """The first block's input."""
        words = self.tokens(ids) * self.width**0.5
        return words + sinusoids(ids.shape[1], self.width, ids.device).to(words.dtype)

    def forward(self, x: Int[Tensor, "batch length"], tokens: TokenKind = "raw") -> TowerOutput:
        """Ids, padded with `config.pad_id`, to tokens, feature and pooled vector, which are one
        here. Of a text without a token it is 0."""
        if x.shape[1] > self.config.context_length:
            raise ConfigError(
                f"{x.shape[1]} tokens; this tower takes at most {self.config.context_length}"
            )
        real = x != self.config.pad_id
        states, seen = self.embed(x), _seen(real)
        for block in self.blocks:
            states = block(states, mask=seen)
        normed = self.norm_post(states)
        feature = mean_of_real(normed, real)
        chosen = normed if tokens in ("normed", "projected") else self._select(states, tokens)
        return TowerOutput(chosen, feature, feature)

    def flops(self) -> int:
        """Of `forward` for one caption of full length; a multiply-add counts two."""
        c = self.config
        return c.layers * block_flops(c.context_length, c.width, c.mlp_width)


def _seen(real: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens tokens"]:
    """Which tokens (last) each of them sees: those that are no padding, and itself, so that no row
    is empty."""
    own = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    return real[:, None] | own
