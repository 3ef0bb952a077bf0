"""CLIP's vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929; Radford et al. 2021,
arXiv:2103.00020)."""

from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.clip import VitConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import ConvStem, PatchDropout, PatchEmbedding
from diptych.nn.block import block_flops, build_blocks, init_blocks
from diptych.nn.patch import Masked, hide


class VisionTransformer(Tower[VitConfig]):
    """Patches, a class token, positions, pre-norm blocks; one vector is read from the class token
    or the mean.

    >>> import torch
    >>> from diptych.families.clip import VitConfig
    >>> from diptych.families.clip.vit import VisionTransformer
    >>> config = VitConfig(image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16)
    >>> tower = VisionTransformer(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]), torch.Size([2, 6]))
    """

    always_projects = False

    def __init__(self, config: VitConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.class_tokens = int(config.pool != "mean")
        self.class_token = nn.Parameter(torch.empty(width)) if self.class_tokens else None
        self.positions = nn.Parameter(torch.empty(config.side**2 + self.class_tokens, width))
        self.stem = ConvStem(config.stem_widths) if config.stem_widths else None
        self.patch = (
            PatchEmbedding(config.stem_widths[-1], width, kernel_size=1)
            if config.stem_widths
            else PatchEmbedding(3, width, config.patch_size, config.patch_size, bias=False)
        )
        self.drop = PatchDropout()
        self.norm_pre = nn.LayerNorm(width, config.norm_eps) if config.pre_norm else nn.Identity()
        self.blocks = build_blocks(config, config.layer_scale)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.projection = (
            nn.Identity() if embed_dim is None else nn.Linear(width, embed_dim, bias=False)
        )

    def init(self) -> None:
        """Fill every parameter, by CLIP's table (arXiv:2103.00020, published code).

        | parameter               | value                                   |
        | ----------------------- | --------------------------------------- |
        | class_token, positions  | N(0, 1 / width)                         |
        | stem                    | see `ConvNorm.init`                     |
        | patch.weight, bias      | N(0, 1 / fan in), 0                     |
        | norms                   | gain 1, bias 0                          |
        | blocks                  | see `init_blocks`                       |
        | projection.weight       | N(0, 1 / width)                         |
        """
        # `width` numbers of variance 1 / width make a token of length 1, whatever the width.
        std = self.width**-0.5
        nn.init.normal_(self.positions, std=std)
        if isinstance(self.projection, nn.Linear):
            nn.init.normal_(self.projection.weight, std=std)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=std)
        if self.stem is not None:
            self.stem.init()
        nn.init.normal_(self.patch.weight, std=self.patch.weight[0].numel() ** -0.5)
        if self.patch.bias is not None:
            nn.init.zeros_(self.patch.bias)
        if isinstance(self.norm_pre, nn.LayerNorm):
            self.norm_pre.reset_parameters()
        self.norm_post.reset_parameters()
        init_blocks(self.blocks, self.width)

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"], masked: Masked | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """The first block's input: the class token first, then the patches in reading order."""
        self._check_pictures(pixels, self.config.image_size)
        whole = self.config.side * self.config.patch_size  # without a margin that makes no patch
        pixels = pixels[:, :, :whole, :whole]
        x = self.patch(pixels if self.stem is None else self.stem(pixels))
        # [batch, width, rows, columns] -> [batch, patches, width]
        x = hide(x.flatten(2).transpose(1, 2), masked)
        # Positions are added before patches are dropped, so a kept patch knows where it stood.
        if self.class_token is None:
            return self.norm_pre(self.drop(x + self.positions))
        # The class token is never dropped. It is cast because under autocast the patches come in
        # half precision, and `cat` would make all of float32.
        first = (self.class_token + self.positions[0]).to(x.dtype).expand(x.shape[0], 1, -1)
        return self.norm_pre(torch.cat([first, self.drop(x + self.positions[1:])], dim=1))

    @property
    def grid(self) -> int:
        return self.config.side

    def forward(
        self,
        x: Float[Tensor, "batch 3 height wide"],
        tokens: TokenKind = "raw",
        masked: Masked | None = None,
    ) -> TowerOutput:
        """Pixels to tokens, feature and pooled vector. The class token comes first, if there is
        one; patches are [:, class_tokens:]. The feature is the class token, or a mean, behind the
        final norm. With "none", where the class token is read, the last block computes
        it only."""
        *blocks, last = self.blocks
        x = self.embed(x, masked)
        for block in blocks:
            x = block(x)
        if tokens == "none" and self.config.pool == "cls":
            # Keys and values of all tokens, but one query and one row of the MLP.
            x = read = last(x, pick=(slice(None), 0))
        else:
            x = last(x)
            read = self._read(x)
        feature = self.norm_post(read)
        chosen = self._select(x, tokens, self.norm_post, self.projection)
        return TowerOutput(chosen, feature, self.projection(feature))

    def _read(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch width"]:
        match self.config.pool:
            case "cls":
                return x[:, 0]
            case "mean" | "patches":
                return x[:, self.class_tokens :].mean(dim=1)
            case "all":
                return x.mean(dim=1)
            case _:
                assert_never(self.config.pool)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """Where the class token is read, what the last block's attention would add to it of this
        patch alone: the value path (MaskCLIP: Zhou et al. 2022, arXiv:2112.01071), without residual
        and MLP, which keep the picture and not the place (CLIP Surgery: Li et al. 2023,
        arXiv:2304.05653). Where the patches' mean is read, the patch itself."""
        *blocks, last = self.blocks
        x = self.embed(pixels)
        for block in blocks:
            x = block(x)
        x = last(x, values=self.config.pool == "cls")[:, self.class_tokens :]
        return self.projection(self.norm_post(x))

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def flops(self) -> int:
        """Of `forward` for one picture; a multiply-add counts two."""
        c = self.config
        side, channels, total = c.side * c.patch_size, 3, 0
        for width in c.stem_widths:
            side //= 2
            total += 2 * side**2 * 9 * channels * width
            channels = width
        total += 2 * side**2 * channels * c.width  # the patches' product: stride and kernel cancel
        total += c.layers * block_flops(len(self.positions), c.width, c.mlp_width)
        if isinstance(self.projection, nn.Linear):
            total += 2 * self.projection.weight.numel()
        return total
