"""SigLIP 2's image tower for pictures of their own aspect (Tschannen et al. 2025,
arXiv:2502.14786, §2.4.2)."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.errors import ConfigError
from diptych.families.siglip.config import NaflexImageConfig
from diptych.families.siglip.image import PooledImageTower
from diptych.inputs.native import real_patches, seen_patches, unpack
from diptych.models.tower import TokenKind, TowerOutput
from diptych.nn.patch import take_patches


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
        here. There are as many tokens as the budget has patches; those behind a shorter row mean
        nothing."""
        column, grids = unpack(x, self.config.patch_size)
        x = self.patch(column).flatten(2).transpose(1, 2)
        # Shapes depend on the budget alone: no host waits for a GPU to know them, and one compiled
        # graph serves all batches of a budget. Rows are full but for a few patches anyway.
        places, seen = real_patches(grids, x.shape[1])
        x = x + self._positions(grids, places).to(x.dtype)
        kept = self.drop.choose(x, seen)
        if kept is not None:
            x, seen = take_patches(x, kept), seen.gather(1, kept)
        mask = seen[:, None].expand(-1, x.shape[1], -1)  # the same for each query
        for block in self.blocks:
            x = block(x, mask=mask)
        normed = self.norm_post(x)
        feature = self.pool(normed, seen)
        chosen = normed if tokens in ("normed", "projected") else self._select(x, tokens)
        return TowerOutput(chosen, feature, feature)

    def real_patches(
        self, pixels: Float[Tensor, "batch 3 rows patch_size"]
    ) -> Bool[Tensor, "batch patches"]:
        """See `Tower.real_patches`. Raises ConfigError where patches are dropped: nobody is told
        which."""
        if self.training and self.drop.share:
            raise ConfigError("captions are written of all patches; set patch_dropout to 0")
        return seen_patches(pixels, self.config.patch_size)

    def _positions(
        self, grids: Int[Tensor, "batch 2"], places: Int[Tensor, " patches"]
    ) -> Float[Tensor, "batch patches width"]:
        """The table, interpolated to each grid as a picture that is resized is: antialiased, an
        axis at a time, so that an entry's weight is the product of two."""
        rows, columns = grids[:, :1], grids[:, 1:]
        kernel, side = _KERNELS[self.config.interpolation], self.config.side
        down = _weights(places // columns, rows, side, kernel)
        right = _weights(places % columns, columns, side, kernel)
        with torch.autocast(places.device.type, enabled=False):
            of_entries = (down[..., :, None] * right[..., None, :]).flatten(2)
            return of_entries @ self.positions.float()

    def flops(self) -> int:
        """As `flops_for` of as many patches as there are positions."""
        return self.flops_for(len(self.positions))

    def flops_for(self, patches: int) -> int:
        """Of a picture of so many patches."""
        table = 2 * patches * self.config.side**2 * self.width
        return self._flops_of(patches) + table

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 rows patch_size"]
    ) -> Float[Tensor, "batch places embed_dim"]:
        """What the pool would give if it attended to this patch alone. A batch may mix grids, so
        each is resampled to as many rows as columns, together as many as the budget allows."""
        _, grids = unpack(pixels, self.config.patch_size)
        vectors = self.pool.read_each(self(pixels, "normed").tokens)
        side = math.isqrt(vectors.shape[1])
        sizes: list[list[int]] = grids.tolist()
        return torch.stack([_resampled(*each, side) for each in zip(vectors, sizes, strict=True)])


def _resampled(
    vectors: Float[Tensor, "patches width"], grid: Sequence[int], side: int
) -> Float[Tensor, "{side}*{side} width"]:
    """A grid of patches as one of `side` x `side` places."""
    places = torch.arange(side, device=vectors.device)[None]
    sides = torch.full_like(places[:, :1], side)
    down, right = (
        _weights(places, sides, patches, _triangle)[0].to(vectors.dtype) for patches in grid
    )
    own = vectors[: math.prod(grid)].unflatten(0, grid)
    return torch.einsum("yr,xc,rcw->yxw", down, right, own).flatten(0, 1)


def _triangle(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Keys's kernel (1981) with the slope of -1/2 at 1, as torch has it where it is antialiased."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, far).where(distance < 2, 0)


_KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def _weights(
    places: Int[Tensor, "batch patches"],
    sides: Int[Tensor, "batch 1"],
    entries: int,
    kernel: Callable[[Tensor], Tensor],
) -> Float[Tensor, "batch patches {entries}"]:
    """By what each of the table's `entries` along an axis counts for places, of which there are
    `sides` along it: a kernel about the place's centre, whose unit is an entry, or a place where
    that is wider. Together they are 1."""
    wide = entries / sides.float()  # of a place, in entries
    centres = (places + 0.5) * wide
    middles = torch.arange(entries, device=places.device) + 0.5
    distance = (middles - centres[..., None]).abs() / wide.clamp(min=1)[..., None]
    weights = kernel(distance)
    # Places behind a shorter row's end may lie beyond the table: all their weights are 0.
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
