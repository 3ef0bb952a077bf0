"""SigLIP 2's image tower for pictures of their own aspect (Tschannen et al. 2025,
arXiv:2502.14786, §2.4.2)."""

from typing import NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diptych.errors import ConfigError
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.image import PooledImageTower
from diptych.inputs.native import unpack
from diptych.models.tower import TokenKind, TowerOutput


class NaflexImageTower(PooledImageTower[NaflexImageConfig]):
    """`SiglipImageTower` for pictures of many shapes in one batch: each has its own grid, to which
    the positions are interpolated, and no token attends to what fills up the shorter rows.

    >>> import torch
    >>> from diptych.config import PreprocessConfig
    >>> from diptych.families.siglip import NaflexImageConfig
    >>> from diptych.families.siglip.naflex import NaflexImageTower
    >>> from diptych.inputs import Preprocess
    >>> config = NaflexImageConfig(
    ...     image_size=16, patch_size=4, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = NaflexImageTower(config, embed_dim=8)
    >>> tower.init()
    >>> preprocess = Preprocess(PreprocessConfig(resize="native", patches=16, patch_size=4), 16)
    >>> shapes = [(3, 30, 40), (3, 9, 50)]
    >>> pictures = [preprocess(torch.zeros(shape, dtype=torch.uint8)) for shape in shapes]
    >>> tokens, feature, pooled = tower(torch.stack(pictures))
    >>> tokens.shape, pooled.shape
    (torch.Size([2, 16, 8]), torch.Size([2, 8]))
    """

    def forward(
        self, x: Float[Tensor, "batch 3 rows patch_size"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Packed pictures (`inputs.native`) to tokens, feature and pooled vector, which are one
        here. There are as many tokens as the longest row has patches; those behind a shorter row
        mean nothing."""
        column, grids = unpack(x, self.config.patch_size)
        x = self.patch(column).flatten(2).transpose(1, 2)
        x = x + self._positions(grids, x.shape[1])
        lengths = grids.prod(1).to(x.device)
        seen = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        mask = seen[:, None].expand(-1, x.shape[1], -1)  # the same for each query
        for block in self.blocks:
            x = block(x, mask=mask)
        normed = self.norm_post(x)
        feature = self.pool(normed, seen)
        chosen = normed if tokens in ("normed", "projected") else self._select(x, tokens)
        return TowerOutput(chosen, feature, feature)

    def _positions(
        self, grids: Int[Tensor, "batch 2"], longest: int
    ) -> Float[Tensor, "batch {longest} width"]:
        """The table, interpolated to each grid as a picture that is resized is: antialiased."""
        side = self.config.side
        table = self.positions.float().T.unflatten(1, (side, side))[None]
        found = dict[tuple[int, int], Tensor]()
        for rows, columns in grids.tolist():
            if (rows, columns) not in found:
                size = (rows, columns)
                resized = F.interpolate(table, size, mode="bilinear", antialias=True)[0].flatten(1)
                found[size] = F.pad(resized, (0, longest - rows * columns)).T
        of_each = [found[rows, columns] for rows, columns in grids.tolist()]
        return torch.stack(of_each).to(self.positions.dtype)

    def flops_for(self, patches: int) -> int:
        """Of a picture of so many patches."""
        return self._flops_of(patches)

    def patch_vectors(self, pixels: Float[Tensor, "batch 3 rows patch_size"]) -> NoReturn:
        """Raises ConfigError: a batch has no one grid of places."""
        raise ConfigError(
            "heat maps lie over a square, and a NaFlex tower sees pictures of their own aspect; "
            "take a SigLIP 2 of one size"
        )
