"""CLIPA's text tower (Li et al. 2023, arXiv:2305.07017)."""

from torch import nn

from diptych.families.clip.two_way import TwoWayText
from diptych.families.clipa.config import ClipaTextConfig
from diptych.nn.block import init_blocks


class ClipaTextTower(TwoWayText[ClipaTextConfig]):
    """Read at the last place; the projection has no bias.

    >>> import torch
    >>> from diptych.families.clipa import ClipaTextConfig
    >>> from diptych.families.clipa.text import ClipaTextTower
    >>> config = ClipaTextConfig(
    ...     context_length=4, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = ClipaTextTower(config, embed_dim=6)
    >>> tower.init()
    >>> tower(torch.tensor([[3, 5, 0, 0]])).pooled.shape
    torch.Size([1, 6])
    """

    def __init__(self, config: ClipaTextConfig, embed_dim: int):
        super().__init__(config, nn.Linear(config.width, embed_dim, bias=False))

    def init(self) -> None:
        """Fill every parameter, by CLIP's table, as open_clip does.

        | parameter          | value                     |
        | ------------------ | ------------------------- |
        | tokens.weight      | N(0, 0.02^2)              |
        | positions          | N(0, 0.01^2)              |
        | blocks             | see `init_blocks`         |
        | norm_post          | gain 1, bias 0            |
        | projection.weight  | N(0, 1 / width)           |
        """
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        init_blocks(self.blocks, self.width)
        self.norm_post.reset_parameters()
        assert isinstance(self.projection, nn.Linear)
        nn.init.normal_(self.projection.weight, std=self.width**-0.5)
