"""SigLIP's image tower (Zhai et al. 2023, arXiv:2303.15343)."""

from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.siglip.blocks import init_blocks, init_pool
from diptych.families.siglip.config import PooledImageConfig, SiglipImageConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import PatchDropout, PatchEmbedding, QueryPool
from diptych.nn.block import block_flops, build_blocks
from diptych.nn.patch import Masked, hide

V = TypeVar("V", bound=PooledImageConfig)


class PooledImageTower(Tower[V], Generic[V]):
    """What SigLIP's image towers are made of, whatever pictures they take."""

    always_projects = False
    readout = "pool"

    @classmethod
    def check_projection(cls, config: V, embed_dim: int | None) -> None:
        """Raises ConfigError for a shared space of another width than the tower's."""
        if embed_dim not in (None, config.width):
            raise ConfigError(
                f"SigLIP's image tower has no projection: embed_dim must be its width, "
                f"{config.width}, and is {embed_dim}"
            )

    def __init__(self, config: V, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.positions = nn.Parameter(torch.empty(config.side**2, width))
        self.patch = PatchEmbedding(3, width, config.patch_size, config.patch_size)
        self.blocks = build_blocks(config)
        self.drop = PatchDropout()
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.pool = QueryPool(
            width=width,
            heads=config.heads,
            mlp_width=config.mlp_width,
            activation=config.activation,
            eps=config.norm_eps,
        )

    def init(self) -> None:
        """Fill every parameter, as the published code does (big_vision).

        | parameter          | value                                           |
        | ------------------ | ----------------------------------------------- |
        | positions          | N(0, 1 / width)                                 |
        | patch.weight, bias | N(0, 1 / fan in) within two deviations, 0       |
        | norms              | gain 1, bias 0                                  |
        | blocks, pool       | see `blocks.init_blocks`, `blocks.init_pool`    |
        """
        nn.init.normal_(self.positions, std=self.width**-0.5)
        init_lecun(self.patch.weight)
        if self.patch.bias is not None:
            nn.init.zeros_(self.patch.bias)
        init_blocks(self.blocks)
        self.norm_post.reset_parameters()
        init_pool(self.pool)

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def flops(self) -> int:
        """Of `forward` for one picture of as many patches as there are positions."""
        return self._flops_of(len(self.positions))

    def _flops_of(self, patches: int) -> int:
        """A multiply-add counts two."""
        c = self.config
        embedding = 2 * patches * 3 * c.patch_size**2 * c.width
        blocks = c.layers * block_flops(patches, c.width, c.mlp_width)
        return embedding + blocks + self.pool.flops(patches)


class SiglipImageTower(PooledImageTower[SiglipImageConfig]):
    """Patches, positions, pre-norm blocks, a norm; an attention pool reads the vector.

    >>> import torch
    >>> from diptych.families.siglip import SiglipImageConfig
    >>> from diptych.families.siglip.image import SiglipImageTower
    >>> config = SiglipImageConfig(
    ...     image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = SiglipImageTower(config, embed_dim=8)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 4, 8]), torch.Size([2, 8]), torch.Size([2, 8]))
    """

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"], masked: Masked | None = None
    ) -> Float[Tensor, "batch patches width"]:
        """The first block's input: the patches in reading order."""
        self._check_pictures(pixels, self.config.image_size)
        whole = self.config.side * self.config.patch_size
        x = self.patch(pixels[:, :, :whole, :whole]).flatten(2).transpose(1, 2)
        x = hide(x, masked)
        # Positions are added before patches are dropped, so a kept patch knows where it stood.
        return self.drop(x + self.positions)

    @property
    def grid(self) -> int:
        return self.config.side

    def forward(
        self,
        x: Float[Tensor, "batch 3 height wide"],
        tokens: TokenKind = "raw",
        masked: Masked | None = None,
    ) -> TowerOutput:
        """Pixels to tokens, feature and pooled vector, which are one here. All tokens are patches;
        they are in the shared space as they are, without a projection."""
        x = self.embed(x, masked)
        for block in self.blocks:
            x = block(x)
        normed = self.norm_post(x)
        feature = self.pool(normed)
        chosen = normed if tokens in ("normed", "projected") else self._select(x, tokens)
        return TowerOutput(chosen, feature, feature)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What the pool would give if it attended to this patch alone."""
        return self.pool.read_each(self(pixels, "normed").tokens)


def init_lecun(weight: Tensor) -> None:
    """A normal distribution of variance 1 / fan in, cut at two deviations (LeCun et al. 1998)."""
    # What is cut off made the variance 1 / 0.8796^2 as large.
    std = weight[0].numel() ** -0.5 / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
