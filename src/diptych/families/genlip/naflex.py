"""GenLIP's image tower for pictures of their own aspect (Fang et al. 2026, arXiv:2605.00809)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.genlip.config import GenlipNaflexConfig
from diptych.families.genlip.image import GenlipTower
from diptych.inputs.native import real_patches, seen_patches, unpack
from diptych.models.tower import TokenKind, TowerOutput
from diptych.nn.padding import for_heads, mean_of_real
from diptych.nn.patch import take_patches


class GenlipNaflexTower(GenlipTower[GenlipNaflexConfig]):
    """`GenlipImageTower` for pictures of many shapes in one batch: each has its own grid, and no
    token attends to what fills up the shorter rows.

    >>> import torch
    >>> from diptych.config import PreprocessConfig
    >>> from diptych.families.genlip import GenlipNaflexConfig
    >>> from diptych.families.genlip.naflex import GenlipNaflexTower
    >>> from diptych.inputs import Preprocess
    >>> config = GenlipNaflexConfig(
    ...     image_size=16, patch_size=4, width=16, layers=1, heads=2, mlp_width=24,
    ...     rotary_sections=(0, 2, 2),
    ... )
    >>> tower = GenlipNaflexTower(config, embed_dim=6)
    >>> tower.init()
    >>> preprocess = Preprocess(PreprocessConfig(resize="native", patches=16, patch_size=4), 16)
    >>> shapes = [(3, 30, 40), (3, 9, 50)]
    >>> pictures = [preprocess(torch.zeros(shape, dtype=torch.uint8)) for shape in shapes]
    >>> tokens, feature, pooled = tower(torch.stack(pictures))
    >>> tokens.shape, pooled.shape
    (torch.Size([2, 16, 16]), torch.Size([2, 6]))
    """

    def _input_norm(self) -> nn.Module:
        """Of a patch's numbers in the order y, x, colour, as open_clip's loaders give them."""
        numbers = 3 * self.config.patch_size**2
        return nn.LayerNorm(numbers) if self.config.input_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch 3 rows patch_size"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Packed pictures (`inputs.native`) to tokens, feature and pooled vector. There are as many
        tokens as the budget has patches; those behind a shorter row mean nothing."""
        column, grids = unpack(x, self.config.patch_size)
        x = self.patch(self._normed(column)).flatten(2).transpose(1, 2)
        places, seen = real_patches(grids, x.shape[1])
        kept = self.drop.choose(x, seen)
        if kept is not None:
            # A kept patch turns by its place in the picture: its number.
            x, seen, places = take_patches(x, kept), seen.gather(1, kept), kept
        columns = grids[:, 1:].clamp(min=1)
        coordinates = torch.stack((places // columns, places % columns), dim=-1)
        x, by = self.norm_pre(x), self._turns(coordinates, x.dtype)
        for block in self.blocks:
            x = block(x, for_heads(seen), *by)
        return self._read(x, mean_of_real(self.norm_post(x), seen), tokens)

    def _normed(self, column: Float[Tensor, "batch 3 rows wide"]) -> Tensor:
        if isinstance(self.norm_input, nn.Identity):
            return column
        size = self.config.patch_size
        # [batch, 3, patches y, x] -> [batch, patches, y x 3] and back
        flat = column.unflatten(2, (-1, size)).permute(0, 2, 3, 4, 1).flatten(2)
        normed = self.norm_input(flat).unflatten(2, (size, size, 3))
        return normed.permute(0, 4, 1, 2, 3).flatten(2, 3)

    def real_patches(
        self, pixels: Float[Tensor, "batch 3 rows patch_size"]
    ) -> Bool[Tensor, "batch patches"]:
        """See `Tower.real_patches`. Raises ConfigError where patches are dropped: nobody is told
        which."""
        if self.training and self.drop.share:
            raise ConfigError("captions are written of all patches; set patch_dropout to 0")
        return seen_patches(pixels, self.config.patch_size)

    def read_tokens(
        self, pixels: Float[Tensor, "batch 3 rows patch_size"]
    ) -> tuple[Tensor, Tensor, int]:
        """Raises ConfigError: a batch's grids differ, so its gradients make no maps."""
        raise ConfigError(f"there are no heat maps of a {type(self).__name__}")

    def flops_for(self, patches: int) -> int:
        """Of a picture of so many patches."""
        return self._flops_of(patches)
