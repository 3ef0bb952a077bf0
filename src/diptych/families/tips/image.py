"""TIPS's image tower (Maninis et al. 2024, arXiv:2410.16512; Cao et al. 2026, arXiv:2604.12012)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.tips.config import TipsImageConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import Attention, GatedMlp, Mlp, PatchDropout, PatchEmbedding, StochasticDepth
from diptych.nn.block import block_flops
from diptych.nn.patch import Masked, hide

_STD = 0.02
"""Of what is drawn before training."""


class TipsBlock(nn.Module):
    """x + gain * attention(norm(x)), then x + gain * mlp(norm(x)): DINOv2's block (Oquab et al.
    2023, arXiv:2304.07193).

    >>> import torch
    >>> from diptych.families.tips import TipsImageConfig
    >>> from diptych.families.tips.image import TipsBlock
    >>> block = TipsBlock(TipsImageConfig(width=8, heads=2, mlp_width=16))
    >>> block(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, config: TipsImageConfig):
        super().__init__()
        width, hidden = config.width, config.mlp_width
        self.norm_1 = nn.LayerNorm(width, config.norm_eps)
        self.attention = Attention(width, config.heads)
        self.scale_1 = nn.Parameter(torch.empty(width))
        self.norm_2 = nn.LayerNorm(width, config.norm_eps)
        gated = config.mlp == "swiglu"
        self.mlp = GatedMlp(width, hidden) if gated else Mlp(width, hidden, "gelu")
        self.scale_2 = nn.Parameter(torch.empty(width))
        self.depth = StochasticDepth()

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        pick: tuple[Any, ...] | None = None,
        values: bool = False,
    ) -> Tensor:
        """[batch, tokens, width] -> the same shape; with `pick`, of the token `x[pick]` of each row
        alone: [batch, width]; with `values`, as if each token attended to itself alone."""
        attended = self.attention(self.norm_1(x), pick=pick, values=values)
        x = (x if pick is None else x[pick]) + self.depth(attended * self.scale_1)
        return x + self.depth(self.mlp(self.norm_2(x)) * self.scale_2)


class TipsImageTower(Tower[TipsImageConfig]):
    """Patches with positions, a class token and registers, pre-norm blocks, a norm; the vector is
    the class token.

    Its pooled vector and its patches are in the shared space as they are: it has no projection.

    >>> import torch
    >>> from diptych.families.tips import TipsImageConfig
    >>> from diptych.families.tips.image import TipsImageTower
    >>> config = TipsImageConfig(
    ...     image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = TipsImageTower(config, embed_dim=8)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 6, 8]), torch.Size([2, 8]), torch.Size([2, 8]))
    """

    always_projects = False

    @classmethod
    def check_projection(cls, config: TipsImageConfig, embed_dim: int | None) -> None:
        """Raises ConfigError for a shared space of another width than the tower's."""
        if embed_dim not in (None, config.width):
            raise ConfigError(
                f"TIPS's image tower has no projection: embed_dim must be its width, "
                f"{config.width}, and is {embed_dim}"
            )

    def __init__(self, config: TipsImageConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.class_tokens = 1 + config.registers
        self.class_token = nn.Parameter(torch.empty(width))
        self.registers = nn.Parameter(torch.empty(config.registers, width))
        self.positions = nn.Parameter(torch.empty(config.side**2, width))
        self.patch = PatchEmbedding(3, width, config.patch_size, config.patch_size)
        self.drop = PatchDropout()
        self.blocks = nn.ModuleList(TipsBlock(config) for _ in range(config.layers))
        self.norm_post = nn.LayerNorm(width, config.norm_eps)

    def init(self) -> None:
        """Fill every parameter, as DINOv2 does (published code).

        | parameter                | value                                    |
        | ------------------------ | ---------------------------------------- |
        | class_token, positions   | truncated N(0, 0.02^2)                   |
        | registers                | N(0, 1e-12)                              |
        | patch                    | uniform within 1 / sqrt(fan in), as torch's convolutions |
        | matrices, biases         | truncated N(0, 0.02^2), 0                |
        | norms                    | gain 1, bias 0                           |
        | scale_1, scale_2         | 1                                        |
        """
        for table in (self.class_token, self.positions):
            nn.init.trunc_normal_(table, std=_STD)
        nn.init.normal_(self.registers, std=1e-6)
        self.patch.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, TipsBlock):
                nn.init.ones_(module.scale_1)
                nn.init.ones_(module.scale_2)

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"], masked: Masked | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """The first block's input: class token, registers, patches in reading order."""
        self._check_pictures(pixels, self.config.image_size)
        x = hide(self.patch(pixels).flatten(2).transpose(1, 2), masked)
        # Positions are added before patches are dropped, so a kept patch knows where it stood.
        x = self.drop(x + self.positions)
        # Cast because under autocast the patches come in half precision.
        first = torch.cat([self.class_token[None], self.registers]).to(x.dtype)
        return torch.cat([first.expand(x.shape[0], -1, -1), x], dim=1)

    @property
    def grid(self) -> int:
        return self.config.side

    def forward(
        self,
        x: Float[Tensor, "batch 3 height wide"],
        tokens: TokenKind = "raw",
        masked: Masked | None = None,
    ) -> TowerOutput:
        """Pixels to tokens (patches are [:, class_tokens:]), feature and pooled vector, which are
        one here: the class token behind the final norm. With "none", the last block computes it
        alone."""
        *blocks, last = self.blocks
        x = self.embed(x, masked)
        for block in blocks:
            x = block(x)
        if tokens == "none":
            x = read = last(x, pick=(slice(None), 0))
        else:
            x = last(x)
            read = x[:, 0]
        feature = self.norm_post(read)
        return TowerOutput(self._select(x, tokens, self.norm_post, nn.Identity()), feature, feature)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What the tower gives of a patch that, in the last block, attends to itself alone: the
        authors' way to segment by words (github.com/google-deepmind/tips,
        pytorch/TIPSv2_Segmentation.ipynb; after MaskCLIP, Zhou et al. 2022, arXiv:2112.01071)."""
        *blocks, last = self.blocks
        x = self.embed(pixels)
        for block in blocks:
            x = block(x)
        return self.norm_post(last(x, values=True)[:, self.class_tokens :])

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def flops(self) -> int:
        """Of `forward` for one picture; a multiply-add counts two."""
        c = self.config
        patches = len(self.positions)
        embedding = 2 * patches * 3 * c.patch_size**2 * c.width
        matrices = 3 if c.mlp == "swiglu" else 2
        tokens = self.class_tokens + patches
        return embedding + c.layers * block_flops(tokens, c.width, c.mlp_width, matrices)
