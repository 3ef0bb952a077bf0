"""GenLIP's image tower for squares (Fang et al. 2026, arXiv:2605.00809)."""

from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.genlip.block import BlockSizes, GenlipBlock, init_block, norm_of
from diptych.families.genlip.config import GenlipImageConfig, GenlipSizes
from diptych.families.genlip.rotary import Turns, grid_places, turns
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import PatchDropout, PatchEmbedding
from diptych.nn.block import block_flops
from diptych.nn.patch import Masked, hide, take_patches

_STD = 0.02
"""Of what is drawn before training outside of the blocks."""
S = TypeVar("S", bound=GenlipSizes)


class GenlipTower(Tower[S], Generic[S]):
    """What GenLIP's image towers are made of, whatever pictures they take."""

    always_projects = False

    def __init__(self, config: S, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        size = config.patch_size
        self.norm_input = self._input_norm()
        self.patch = PatchEmbedding(3, width, size, size, bias=config.patch_bias)
        self.norm_pre = norm_of(config, width) if config.pre_norm else nn.Identity()
        self.drop = PatchDropout()
        sizes = BlockSizes.of(config)
        self.blocks = nn.ModuleList(GenlipBlock(sizes) for _ in range(config.layers))
        self.norm_post = norm_of(config, width)
        # As in open_clip: a shared space as wide as the tower needs no projection.
        bare = embed_dim in (None, width)
        self.projection = nn.Identity() if bare else nn.Linear(width, embed_dim)

    def _input_norm(self) -> nn.Module:
        """What stands before the patches' projection."""
        return nn.Identity()

    def init(self) -> None:
        """Fill every parameter, as the authors' code does.

        | parameter                      | value               |
        | ------------------------------ | ------------------- |
        | patch, projection (matrix, bias) | N(0, 0.02^2), 0   |
        | norms                          | gain 1, bias 0      |
        | blocks                         | see `init_block`    |
        """
        for module in self.modules():
            if isinstance(module, GenlipBlock):
                init_block(module)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
        for linear in (self.patch, self.projection):
            for name, parameter in linear.named_parameters():
                nn.init.normal_(parameter, std=_STD if name == "weight" else 0.0)

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def _turns(self, coordinates: Tensor, dtype: torch.dtype) -> Turns:
        """Of patches of these rows and columns, [batch, patches, 2]."""
        config = self.config
        return turns(grid_places(coordinates), config.rotary_sections, config.rotary_theta, dtype)

    def _read(self, x: Tensor, feature: Tensor, tokens: TokenKind) -> TowerOutput:
        """The output, of the last block's and of the mean behind the norm."""
        chosen = self._select(x, tokens, self.norm_post, self.projection)
        return TowerOutput(chosen, feature, self.projection(feature))

    def flops(self) -> int:
        """Of `forward` for one square picture."""
        return self._flops_of(self.config.side**2)

    def _flops_of(self, patches: int) -> int:
        """A multiply-add counts two."""
        c = self.config
        matrices = 3 if c.gated_mlp else 2
        block = block_flops(patches, c.width, c.mlp_width, matrices)
        block += 2 * patches * c.width**2 if c.gated_attention else 0
        total = 2 * patches * 3 * c.patch_size**2 * c.width + c.layers * block
        if isinstance(self.projection, nn.Linear):
            total += 2 * self.projection.weight.numel()
        return total


class GenlipImageTower(GenlipTower[GenlipImageConfig]):
    """Patches, blocks that turn them by row and column, a norm; the mean of all is projected.

    >>> import torch
    >>> from diptych.families.genlip import GenlipImageConfig
    >>> from diptych.families.genlip.image import GenlipImageTower
    >>> config = GenlipImageConfig(
    ...     image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=24,
    ...     rotary_sections=(0, 2, 2),
    ... )
    >>> tower = GenlipImageTower(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 4, 16]), torch.Size([2, 16]), torch.Size([2, 6]))
    """

    @property
    def grid(self) -> int:
        return self.config.side

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"], masked: Masked | None = None
    ) -> tuple[Float[Tensor, "batch patches width"], Turns]:
        """The first block's input, in reading order, and what turns queries and keys."""
        self._check_pictures(pixels, self.config.image_size)
        x = hide(self.patch(pixels).flatten(2).transpose(1, 2), masked)
        places, side = torch.arange(x.shape[1], device=x.device), self.config.side
        coordinates = torch.stack((places // side, places % side), dim=-1)[None]
        kept = self.drop.choose(x)
        if kept is not None:
            # A kept patch turns by its place in the picture, not by that among the kept.
            x, coordinates = take_patches(x, kept), coordinates[0, kept]
        return self.norm_pre(x), self._turns(coordinates, x.dtype)

    def forward(
        self,
        x: Float[Tensor, "batch 3 height wide"],
        tokens: TokenKind = "raw",
        masked: Masked | None = None,
    ) -> TowerOutput:
        """Pixels to tokens, feature and pooled vector. All tokens are patches."""
        x, by = self.embed(x, masked)
        for block in self.blocks:
            x = block(x, None, *by)
        return self._read(x, self.norm_post(x).mean(dim=1), tokens)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What of the mean, projected, is each patch's."""
        return self(pixels, "projected").tokens
