"""What both passes of MaMMUT's decoder share (Kuo et al. 2023, arXiv:2303.16839), as open_clip has
it."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.mammut.config import MammutTextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.models.two_pass import Reader
from diptych.nn import Attention, word_table
from diptych.nn.block import Block, block_flops, build_blocks, init_blocks
from diptych.nn.padding import mean_of_real, real_tokens


class MammutTextTower(Tower[MammutTextConfig]):
    """Pre-norm. Without readers each token sees all others, and the vector is the mean of the
    tokens. With readers the blocks are causal, and the tokens are those of a caption, which a
    picture has been read into.

    >>> import torch
    >>> from diptych.families.mammut import MammutTextConfig
    >>> from diptych.families.mammut.text import MammutTextTower
    >>> config = MammutTextConfig(
    ...     context_length=8, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = MammutTextTower(config, embed_dim=8)
    >>> tower.init()
    >>> short, long = torch.tensor([[8, 3, 9]]), torch.tensor([[8, 3, 9, 0, 0]])
    >>> bool(torch.allclose(tower(short).pooled, tower(long).pooled, atol=1e-6))
    True
    """

    @classmethod
    def check_projection(cls, config: MammutTextConfig, embed_dim: int | None) -> None:
        """Raises ConfigError without a shared space, and for one that isn't as wide as a tower
        without projection."""
        super().check_projection(config, embed_dim)
        if not config.projection and embed_dim != config.width:
            raise ConfigError(
                f"embed_dim {embed_dim} must be the text tower's width {config.width}, as it has "
                "no projection (text.projection)"
            )

    def __init__(self, config: MammutTextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.positions = nn.Parameter(torch.empty(config.context_length, width))
        self.tokens = word_table(config.vocab_size, width)
        self.blocks = build_blocks(config)
        if config.lean_every:
            for place in range(0, config.layers, config.lean_every):
                self.blocks[place] = AttentionBlock(width, config.heads, config.norm_eps)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.projection = (
            nn.Linear(width, embed_dim, bias=False) if config.projection else nn.Identity()
        )

    def init(self) -> None:
        """Fill every parameter, as open_clip does.

        | parameter         | value                                          |
        | ----------------- | ---------------------------------------------- |
        | tokens.weight     | N(0, 0.02^2)                                   |
        | positions         | N(0, 0.01^2)                                   |
        | blocks            | see `init_blocks`; without an MLP, the rest of it |
        | norm_post         | gain 1, bias 0                                 |
        | projection.weight | N(0, 1 / width)                                |
        """
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        residual = (2 * self.config.layers * self.width) ** -0.5
        init_blocks([block for block in self.blocks if isinstance(block, Block)], self.width)
        for block in self.blocks:
            if isinstance(block, AttentionBlock):
                block.init(residual)
        self.norm_post.reset_parameters()
        if isinstance(self.projection, nn.Linear):
            nn.init.normal_(self.projection.weight, std=self.width**-0.5)

    def forward(
        self,
        x: Int[Tensor, "batch length"],
        tokens: TokenKind = "raw",
        readers: Sequence[Reader | None] | None = None,
    ) -> TowerOutput:
        """Ids, padded with `config.pad_id`, to tokens, feature and pooled vector. The feature is
        the mean of the tokens behind the final norm. `readers`: behind each block what reads a
        picture, or None; the vectors of such a pass mean nothing."""
        length = x.shape[1]
        if length > self.config.context_length:
            raise ConfigError(
                f"{length} tokens; this tower takes at most {self.config.context_length}"
            )
        states = self.tokens(x) + self.positions[:length]
        real = real_tokens(x, self.config.pad_id)
        if readers is None:
            # What is seen, of a row of tokens, is the same for each of them.
            mask = real[:, None].expand(-1, length, -1) if self.config.masked else None
            for block in self.blocks:
                states = block(states, mask=mask)
        else:
            for block, reader in zip(self.blocks, readers, strict=True):
                states = block(states, causal=True)
                states = states if reader is None else reader(states)
        normed = self.norm_post(states)
        feature = mean_of_real(normed, real) if self.config.pool == "real" else normed.mean(dim=1)
        behind = states if tokens in ("none", "raw") else normed
        chosen = self._select(behind, tokens, nn.Identity(), self.projection)
        return TowerOutput(chosen, feature, self.projection(feature))

    def flops(self) -> int:
        """Of `forward` for one caption of full length, without readers; a multiply-add counts
        two."""
        c = self.config
        length, lean = c.context_length, 0
        if c.lean_every:
            lean = -(-c.layers // c.lean_every)
        blocks = (c.layers - lean) * block_flops(length, c.width, c.mlp_width)
        blocks += lean * block_flops(length, c.width, 0)
        head = self.projection
        return blocks + (2 * head.weight.numel() if isinstance(head, nn.Linear) else 0)


class AttentionBlock(nn.Module):
    """x + attention(norm(x)): a block without an MLP.

    >>> import torch
    >>> from diptych.families.mammut.text import AttentionBlock
    >>> AttentionBlock(width=8, heads=2, eps=1e-5)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int, eps: float):
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads)

    def init(self, residual: float) -> None:
        """As `init_blocks` fills a block's attention; `residual`: the deviation at its end."""
        self.norm_1.reset_parameters()
        width = self.attention.qkv.in_features
        for linear, std in ((self.attention.qkv, width**-0.5), (self.attention.out, residual)):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        causal: bool = False,
        mask: Bool[Tensor, "batch tokens tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """See `Block.forward`."""
        return x + self.attention(self.norm_1(x), causal, mask=mask)
