"""CoCa's image tower with a pool for each task (Yu et al. 2022, arXiv:2205.01917, §3.2), as
open_clip's main branch has it.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.families.coca.config import Coca2ImageConfig
from diptych.families.coca.image import AttentionalPooler, PooledVit
from diptych.models.tower import TokenKind, TowerOutput


class Coca2ImageTower(PooledVit[Coca2ImageConfig]):
    """Two pools behind the norm: one for the decoder, one for the contrast.

    Its tokens are the answers to the decoder's queries, all of which the decoder reads; its vector
    is the answer to the query for the contrast.

    >>> import torch
    >>> from diptych.families.coca import Coca2ImageConfig
    >>> from diptych.families.coca.two_pools import Coca2ImageTower
    >>> config = Coca2ImageConfig(
    ...     image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16, queries=3,
    ...     pool_heads=2, pools="parallel",
    ... )
    >>> tower = Coca2ImageTower(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 3, 6]), torch.Size([2, 6]), torch.Size([2, 6]))
    """

    readout = "pools"

    def __init__(self, config: Coca2ImageConfig, embed_dim: int):
        super().__init__(config, embed_dim)
        self.norm_post = nn.LayerNorm(config.width, config.norm_eps)
        cascade = config.pools == "cascade"
        self.pools = Pools(config.queries, config.pool_heads, config.width, embed_dim, cascade)

    def forward(
        self, x: Float[Tensor, "batch 3 height wide"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Pixels to tokens, feature and pooled vector, the last two of which are the same. Raises
        ConfigError for projected tokens: the decoder's answers aren't in the shared space."""
        read, pooled = self.pools(self.norm_post(self._through(x)), tokens != "none")
        return TowerOutput(self._select(read, tokens, nn.Identity()), pooled, pooled)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What the tower would give if all its queries attended to this patch alone."""
        patches = self.norm_post(self._through(pixels)[:, 1:])
        return self.pools(patches.flatten(0, 1)[:, None], False)[1].unflatten(0, patches.shape[:2])

    def flops(self) -> int:
        """See `PooledVit.flops`."""
        return super().flops() + self.pools.flops(len(self.positions))


class Pools(nn.Module):
    """The pool for the decoder, and that for the contrast, of a single query."""

    def __init__(self, queries: int, heads: int, width: int, embed_dim: int, cascade: bool):
        """`width`: of the tokens; `cascade`: see `Coca2ImageConfig.pools`."""
        super().__init__()
        self.cascade, self.embed_dim = cascade, embed_dim
        self.captions = AttentionalPooler(queries, heads, width, embed_dim)
        self.contrast = AttentionalPooler(1, heads, embed_dim if cascade else width, embed_dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        decoded: bool,
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "batch queries embed_dim"], Float[Tensor, "batch embed_dim"]]:
        """Both pools' answers; the decoder's are none where nothing is `decoded` and the contrast
        doesn't need them. `seen`: which tokens there are (None: all)."""
        asked = decoded or self.cascade
        read = self.captions(x, seen=seen) if asked else x.new_empty(len(x), 0, self.embed_dim)
        found = self.contrast(read) if self.cascade else self.contrast(x, seen=seen)
        return read, found[:, 0]

    def flops(self, tokens: int) -> int:
        """Of `forward` for one picture of so many tokens."""
        read = len(self.captions.query) if self.cascade else tokens
        return self.captions.flops(tokens) + self.contrast.flops(read)
