"""What text towers that look both ways share (SigLIP, Zhai et al. 2023, arXiv:2303.15343; CLIPA, Li
et al. 2023, arXiv:2305.07017)."""

from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.clip.config import TwoWayTextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import word_table
from diptych.nn.block import block_flops, build_blocks

C = TypeVar("C", bound=TwoWayTextConfig)


class TwoWayText(Tower[C]):
    """Each token sees all others; the vector is read at the last place, and projected.

    Padding is seen, too, as it was in training: rows must have the context's whole length. A family
    gives the projection, and fills the parameters.
    """

    def __init__(self, config: C, projection: nn.Module):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.positions = nn.Parameter(torch.empty(config.context_length, width))
        self.tokens = word_table(config.vocab_size, width)
        self.blocks = build_blocks(config)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.projection = projection

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
