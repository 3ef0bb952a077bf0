"""timm's towers for pictures of their own aspect: NaFlex (SigLIP 2, Tschannen et al. 2025,
arXiv:2502.14786, §2.4.2; NaViT, Dehghani et al. 2023, arXiv:2307.06304).

https://github.com/huggingface/pytorch-image-models, timm/models/naflexvit.py
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.timm.config import NaflexVitConfig
from diptych.families.timm.model import TimmTower
from diptych.inputs.native import real_patches, seen_patches, unpack
from diptych.models.foreign import count_flops
from diptych.models.tower import TokenKind, TowerOutput


class NaflexVitTower(TimmTower):
    """`TimmTower` for pictures of many shapes in one batch: each has its own grid, and no token
    attends to what fills up the shorter rows.

    >>> from diptych.config import PreprocessConfig
    >>> from diptych.families.timm import NaflexVitConfig
    >>> from diptych.inputs import Preprocess
    >>> from diptych.models import build_tower
    >>> sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "reg_tokens": 0}
    >>> config = NaflexVitConfig(name="naflexvit_base_patch16_gap", patch_size=4, options=sizes)
    >>> tower = build_tower(config, 8)
    >>> preprocess = Preprocess(PreprocessConfig(resize="native", patches=16, patch_size=4), 16)
    >>> shapes = [(3, 30, 40), (3, 9, 50)]
    >>> pictures = [preprocess(torch.zeros(shape, dtype=torch.uint8)) for shape in shapes]
    >>> tokens, feature, pooled = tower(torch.stack(pictures))
    >>> tokens.shape, pooled.shape
    (torch.Size([2, 16, 16]), torch.Size([2, 8]))
    """

    config: NaflexVitConfig

    def __init__(self, config: NaflexVitConfig, embed_dim: int | None):
        super().__init__(config, embed_dim)
        self.class_tokens = int(self.trunk.num_prefix_tokens)
        if not config.reads_out:
            self.trunk.fc_norm = nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch 3 rows patch_size"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Packed pictures (`inputs.native`) to the trunk's last features as tokens, which are
        normed where it norms them, what its classifier would have read as the feature, and the
        pooled vector. Tokens behind a shorter row mean nothing."""
        size = self.config.patch_size
        column, grids = unpack(x, size)
        places, seen = real_patches(grids, column.shape[2] // size)
        columns = grids[:, 1:].clamp(min=1)
        coordinates = torch.stack((places // columns, places % columns), dim=-1)
        features = self.trunk.forward_features(
            # [batch, 3, patches y, x] -> [batch, patches, y x 3]
            column.unflatten(2, (-1, size)).permute(0, 2, 3, 4, 1).flatten(2),
            patch_coord=coordinates.masked_fill(~seen[..., None], 0),
            patch_valid=seen,
        )
        feature = self.trunk.forward_head(**features, pre_logits=True)
        chosen = self._select(features["patches"], tokens, nn.Identity())
        return TowerOutput(chosen, feature, self.projection(feature))

    def real_patches(
        self, pixels: Float[Tensor, "batch 3 rows patch_size"]
    ) -> Bool[Tensor, "batch patches"]:
        """See `Tower.real_patches`."""
        return seen_patches(pixels, self.config.patch_size)

    def read_tokens(
        self, pixels: Float[Tensor, "batch 3 rows patch_size"]
    ) -> tuple[Tensor, Tensor, int]:
        """Raises ConfigError: a batch's grids differ, so its gradients make no maps."""
        raise ConfigError(f"there are no heat maps of a {type(self).__name__}")

    def flops(self) -> int:
        """As `flops_for` of a square picture's patches."""
        return self.flops_for((self.config.image_size // self.config.patch_size) ** 2)

    def flops_for(self, patches: int) -> int:
        """Counted while a picture of so many patches runs through, as one of plain pixels: grids of
        packed ones can't be read off where there are no numbers (`meta`)."""
        size, rows = self.config.patch_size, math.isqrt(patches)
        while patches % rows:
            rows -= 1
        sides, device = (rows * size, patches // rows * size), next(self.parameters()).device
        pixels = torch.zeros(1, 3, *sides, device=device)
        feature = torch.zeros(1, self.feature_width, device=device)
        return count_flops(self.trunk, pixels) + count_flops(self.projection, feature)
