"""SigLIP's text tower (Zhai et al. 2023, arXiv:2303.15343)."""

from torch import nn

from diptych.errors import ConfigError
from diptych.families.clip.two_way import TwoWayText
from diptych.families.siglip.blocks import init_blocks
from diptych.families.siglip.config import SiglipTextConfig
from diptych.families.siglip.image import init_lecun


class SiglipTextTower(TwoWayText[SiglipTextConfig]):
    """Read at the last place; the projection has a bias, or there is none.

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
        super().__init__(
            config, nn.Linear(config.width, embed_dim) if config.projection else nn.Identity()
        )

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
