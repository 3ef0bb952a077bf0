"""CoCa's two pools (Yu et al. 2022, arXiv:2205.01917, §3.2) over patches of pictures of their own
aspect, as open_clip's main branch has it.

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.coca.config import CocaNaflexConfig
from diptych.families.coca.image import check_pool_heads
from diptych.families.coca.two_pools import Pools
from diptych.models.build import build_tower
from diptych.models.tower import TokenKind, Tower, TowerOutput


class CocaNaflexTower(Tower[CocaNaflexConfig]):
    """Two pools behind a norm of the trunk's patches, of those that a picture has.

    Its tokens are the answers to the decoder's queries, as many for each picture; its vector is the
    answer to the query for the contrast.

    >>> import torch
    >>> from diptych.families.coca import CocaNaflexConfig
    >>> from diptych.families.timm import NaflexVitConfig
    >>> from diptych.inputs.native import pack
    >>> from diptych.models import build_tower
    >>> sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    >>> trunk = NaflexVitConfig(
    ...     name="naflexvit_base_patch16_gap", patch_size=4, options=sizes, reads_out=False
    ... )
    >>> tower = build_tower(CocaNaflexConfig(trunk=trunk, queries=3, pool_heads=2), 8)
    >>> picture = pack(torch.zeros(3, 8, 12, dtype=torch.uint8), 4, patches=9)
    >>> tokens, feature, pooled = tower(picture[None].float())
    >>> tokens.shape, pooled.shape
    (torch.Size([1, 3, 8]), torch.Size([1, 8]))
    """

    readout = "pools"

    @classmethod
    def check_projection(cls, config: CocaNaflexConfig, embed_dim: int | None) -> None:
        """Raises ConfigError as `PooledVit.check_projection`."""
        super().check_projection(config, embed_dim)
        check_pool_heads(config.pool_heads, embed_dim)

    def __init__(self, config: CocaNaflexConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.put_trunk(build_tower(config.trunk, None, torch.get_default_device()))
        width, self.width = self.trunk.width, embed_dim
        self.norm_post = nn.LayerNorm(width)
        cascade = config.pools == "cascade"
        self.pools = Pools(config.queries, config.pool_heads, width, embed_dim, cascade)

    def put_trunk(self, trunk: Tower[Any]) -> None:
        """Have the pools read this one."""
        self.trunk, self.blocks = trunk, trunk.blocks

    @classmethod
    def build(
        cls, config: CocaNaflexConfig, embed_dim: int | None, device: torch.device
    ) -> "CocaNaflexTower":
        """With the values that timm gives the trunk."""
        cls.check_projection(config, embed_dim)
        assert embed_dim is not None
        with torch.device(device):
            return cls(config, embed_dim)

    def init(self) -> None:
        """Fill the pools and the norm; the trunk was filled by timm. Queries: N(0, 1 / embed_dim);
        else see `AttentionalPooler.init`."""
        self.norm_post.reset_parameters()
        for pool in (self.pools.captions, self.pools.contrast):
            pool.init()
            nn.init.normal_(pool.query, std=self.width**-0.5)

    def forward(
        self, x: Float[Tensor, "batch 3 rows patch_size"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Packed pictures (`inputs.native`) to tokens, feature and pooled vector, the last two of
        which are the same. Raises ConfigError for projected tokens."""
        patches = self.trunk(x, "normed").tokens[:, self.trunk.class_tokens :]
        seen = self.trunk.real_patches(x)
        read, pooled = self.pools(self.norm_post(patches), tokens != "none", seen)
        return TowerOutput(self._select(read, tokens, nn.Identity()), pooled, pooled)

    def flops(self) -> int:
        """As `flops_for` of a square picture's patches."""
        trunk = self.config.trunk
        return self.flops_for((trunk.image_size // trunk.patch_size) ** 2)

    def flops_for(self, patches: int) -> int:
        """Of the trunk, and of the pools over so many patches."""
        return self.trunk.flops_for(patches) + self.pools.flops(patches)
