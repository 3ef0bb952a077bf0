"""A text tower of recent language models' blocks, as open_clip has it."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.modern.config import ModernTextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import word_table
from diptych.nn.modern_attention import BlockOptions, init_linear
from diptych.nn.modern_block import (
    ModernBlock,
    modern_blocks,
    modern_flops,
    run_blocks,
)
from diptych.nn.modern_init import init_modern_blocks
from diptych.nn.modern_pool import ModernPool, Reading
from diptych.nn.padding import real_tokens
from diptych.nn.rotary import rotary_line


class ModernTextTower(Tower[ModernTextConfig]):
    """Rotary, pre-norm; padding is known by its id, and seen by no token.

    >>> import torch
    >>> from diptych.families.modern import ModernTextConfig
    >>> from diptych.families.modern.text import ModernTextTower
    >>> config = ModernTextConfig(
    ...     context_length=8, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16, start_id=8,
    ...     end_id=9, pad_id=0,
    ... )
    >>> tower = ModernTextTower(config, embed_dim=6)
    >>> tower.init()
    >>> short, long = torch.tensor([[8, 3, 9]]), torch.tensor([[8, 3, 9, 0, 0]])
    >>> bool(torch.allclose(tower(short).pooled, tower(long).pooled, atol=1e-6))
    True
    """

    readout = "pool"
    always_projects = False
    block_kind: ClassVar[Callable[[BlockOptions, bool, bool], ModernBlock]] = ModernBlock
    pool_kind: ClassVar[Callable[[BlockOptions, Reading], ModernPool]] = ModernPool
    """What its parts are."""

    @classmethod
    def check_projection(cls, config: ModernTextConfig, embed_dim: int | None) -> None:
        """Raises ConfigError where there is no projection to a space of another width."""
        super().check_projection(config, embed_dim)
        if not config.projection and embed_dim not in (config.width, None):
            raise ConfigError(
                f"a text tower without projection: embed_dim must be its width, {config.width}, "
                f"and is {embed_dim}"
            )

    def __init__(self, config: ModernTextConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        options = self.options_of(config)
        norm = options.norm
        still = config.pad_id if config.still_padding else None
        self.tokens = word_table(config.vocab_size, width, still)
        count = config.registers
        self.registers = nn.Parameter(torch.empty(1, count, width)) if count else None
        self.norm_pre = norm(width) if config.pre_norm else nn.Identity()
        self.blocks = modern_blocks(options, config.layers, kind=type(self).block_kind)
        self.norm_post = norm(width)
        self.pool = type(self).pool_kind(options, config.reading)
        self.projection = (
            nn.Linear(width, embed_dim, bias=config.projection_bias)
            if config.projection and embed_dim is not None
            else nn.Identity()
        )

    @classmethod
    def options_of(cls, config: ModernTextConfig) -> BlockOptions:
        """What its blocks are made of."""
        return BlockOptions.of(config)

    def init(self) -> None:
        """Fill every parameter, as open_clip does.

        | parameter         | value                                             |
        | ----------------- | ------------------------------------------------- |
        | tokens.weight     | N(0, 0.02^2), still padding 0                     |
        | registers         | N(0, 1e-12): they begin as nothing                |
        | blocks            | see `nn.modern_init.init_modern_blocks`          |
        | norms             | gain 1, bias 0                                    |
        | pool              | see `nn.modern_pool.ModernPool.init`              |
        | projection        | N(0, 1 / width), bias 0                           |
        """
        c = self.config
        init_words(self.tokens)
        if self.registers is not None:
            nn.init.normal_(self.registers, std=1e-6)
        for norm in (self.norm_pre, self.norm_post):
            if isinstance(norm, nn.RMSNorm | nn.LayerNorm):
                norm.reset_parameters()
        init_modern_blocks(self.blocks, c.width, c.sandwich, c.zero_residual)
        self.pool.init()
        if isinstance(self.projection, nn.Linear):
            init_linear(self.projection, c.width**-0.5)

    def forward(self, x: Int[Tensor, "batch length"], tokens: TokenKind = "raw") -> TowerOutput:
        """Ids, padded with `config.pad_id`, to tokens, feature and pooled vector. Tokens are the
        text's, without registers; of the padding they mean nothing."""
        real = real_tokens(x, self.config.pad_id)
        return self.read_out(self.through(self.embed(x), real), x, real, tokens)

    def read_out(
        self,
        x: Float[Tensor, "batch tokens width"],
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"],
        tokens: TokenKind,
    ) -> TowerOutput:
        """What the tower makes of the last block's output."""
        states = x[:, self.config.registers :]
        feature = self.pool(self.norm_post(states), ids, real, self.config.end_id)
        chosen = self._select(states, tokens, self.norm_post)
        return TowerOutput(chosen, feature, self.projection(feature))

    def embed(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch tokens width"]:
        """The first block's input: registers, then the text. Raises ConfigError for a text that is
        too long."""
        if ids.shape[1] > self.config.context_length:
            raise ConfigError(
                f"{ids.shape[1]} tokens; this tower takes at most {self.config.context_length}"
            )
        x = self.words(ids)
        if self.registers is not None:
            x = torch.cat([self.registers.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        return self.norm_pre(x)

    def words(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """Their vectors."""
        return self.tokens(ids)

    def through(
        self, x: Float[Tensor, "batch tokens width"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch tokens width"]:
        """The last block's output; `real`: which tokens of the texts are no padding."""
        return run_blocks(self.blocks, x, *self.seen(x, real))

    def seen(
        self, x: Float[Tensor, "batch tokens width"], real: Bool[Tensor, "batch length"]
    ) -> tuple[Tensor | None, Tensor | None, bool]:
        """Turns by places, a mask of padding, and whether tokens see those before them alone."""
        mask = None if self.config.causal else text_mask(real, self.config.registers)
        return self.turns(x), mask, self.config.causal

    def turns(self, x: Float[Tensor, "batch tokens width"]) -> Tensor | None:
        """By the places of `x`; None: they have none."""
        c = self.config
        return rotary_line(x.shape[1], c.head_width, c.theta, x.device) if c.rotary else None

    def flops(self) -> int:
        """Of `forward` for one caption of full length; a multiply-add counts two."""
        c = self.config
        blocks = modern_flops(c, c.registers + c.context_length)
        if c.reading == "query":
            blocks += 2 * c.width**2 * (1 + 2 * c.context_length) + 4 * c.context_length * c.width
        if isinstance(self.projection, nn.Linear):
            blocks += 2 * self.projection.weight.numel()
        return blocks


def text_mask(
    real: Bool[Tensor, "batch length"], before: int = 0
) -> Bool[Tensor, "batch 1 1 tokens"]:
    """What all tokens of a row see: those that are `real`, and so many `before` them."""
    return nn.functional.pad(real, (before, 0), value=True)[:, None, None]


def init_words(words: nn.Embedding) -> None:
    """N(0, 0.02^2), and 0 where it gets no gradient."""
    nn.init.normal_(words.weight, std=0.02)
    if words.padding_idx is not None:
        with torch.no_grad():
            words.weight[words.padding_idx].zero_()
