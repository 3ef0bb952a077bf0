"""SigLIP's text tower (Zhai et al. 2023, arXiv:2303.15343)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.siglip.blocks import init_blocks
from diptych.families.siglip.config import SiglipTextConfig
from diptych.families.siglip.image import init_lecun
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn.block import block_flops, build_blocks


class SiglipTextTower(Tower[SiglipTextConfig]):
    """Each token sees all others; the vector is read at the last place.

    Padding is seen, too, as it was in training: rows must have the context's whole length.

    >>> import torch
    >>> from diptych.families.siglip import SiglipTextConfig
    >>> from diptych.families.siglip.text import SiglipTextTower
    >>> config = SiglipTextConfig(
    ...     context_length=4, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = SiglipTextTower(config, embed_dim=6)
    >>> tower.init()
    >>> tower(torch.tensor([[3, 5, 1, 1]])).pooled.shape
    torch.Size([1, 6])
    """

    @classmethod
    def check_projection(cls, config: SiglipTextConfig, embed_dim: int | None) -> None:
        """Raises ConfigError where there is no projection to a space of another width."""
        super().check_projection(config, embed_dim)
        if not config.projection and embed_dim != config.width:
            raise ConfigError(
                f"a text tower without projection: embed_dim must be its width, {config.width}, "
                f"and is {embed_dim}"
            )

    def __init__(self, config: SiglipTextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.positions = nn.Parameter(torch.empty(config.context_length, width))
        # Not drawn twice: on meta, drawing would import torch's compiler, which takes two seconds.
        self.tokens = nn.Embedding.from_pretrained(
            torch.empty(config.vocab_size, width), freeze=False
        )
        self.blocks = build_blocks(config)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.projection = nn.Linear(width, embed_dim) if config.projection else nn.Identity()

    def init(self) -> None:
        """Fill every parameter, as the published code does (big_vision).

        | parameter               | value                                      |
        | ----------------------- | ------------------------------------------ |
        | tokens.weight           | N(0, 1 / width)                            |
        | positions               | N(0, 1 / width)                            |
        | blocks                  | see `blocks.init_blocks`                   |
        | norm_post               | gain 1, bias 0                             |
        | projection.weight, bias | N(0, 1 / width) within two deviations, 0   |
        """
        nn.init.normal_(self.tokens.weight, std=self.width**-0.5)
        nn.init.normal_(self.positions, std=self.width**-0.5)
        init_blocks(self.blocks)
        self.norm_post.reset_parameters()
        if isinstance(self.projection, nn.Linear):
            init_lecun(self.projection.weight)
            nn.init.zeros_(self.projection.bias)

    def embed(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """The first block's input."""
        if ids.shape[1] != self.config.context_length:
            raise ConfigError(
                f"{ids.shape[1]} tokens; this tower sees padding, and takes texts padded to "
                f"{self.config.context_length}"
            )
        return self.tokens(ids) + self.positions

    def forward(self, x: Int[Tensor, "batch length"], tokens: TokenKind = "raw") -> TowerOutput:
        """Padded ids to tokens, feature and pooled vector. The feature is the last place's token
        behind the final norm. With "none", the last block computes that token only."""
        *blocks, last = self.blocks
        x = self.embed(x)
        for block in blocks:
            x = block(x)
        if tokens == "none":
            x = read = last(x, pick=(slice(None), -1))
        else:
            x = last(x)
            read = x[:, -1]
        feature = self.norm_post(read)
        chosen = self._select(x, tokens, self.norm_post)
        return TowerOutput(chosen, feature, self.projection(feature))

    def flops(self) -> int:
        """Of `forward` for one caption; a multiply-add counts two."""
        c = self.config
        blocks = c.layers * block_flops(c.context_length, c.width, c.mlp_width)
        if isinstance(self.projection, nn.Linear):
            return blocks + 2 * self.projection.weight.numel()
        return blocks
