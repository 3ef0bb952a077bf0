"""PE-Core's image tower (Bolya et al. 2025, arXiv:2504.13181)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.families.pe.config import PeImageConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import PatchDropout, PatchEmbedding, QueryPool
from diptych.nn.block import block_flops, build_blocks, init_blocks
from diptych.nn.patch import Masked, hide, take_patches
from diptych.nn.rotary import Rotary, rotary_table, with_class_token


class PeImageTower(Tower[PeImageConfig]):
    """Patches, perhaps a class token, positions, pre-norm blocks with rotary positions, a norm; an
    attention pool reads the vector.

    >>> import torch
    >>> from diptych.families.pe import PeImageConfig
    >>> from diptych.families.pe.image import PeImageTower
    >>> config = PeImageConfig(
    ...     image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=24, rotary_grid=2,
    ...     pool_mlp_width=24
    ... )
    >>> tower = PeImageTower(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 16]), torch.Size([2, 6]))
    """

    always_projects = False
    readout = "pool"

    def __init__(self, config: PeImageConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.class_tokens = int(config.class_token)
        self.class_token = nn.Parameter(torch.empty(width)) if config.class_token else None
        self.positions = nn.Parameter(torch.empty(self.class_tokens + config.side**2, width))
        self.patch = PatchEmbedding(3, width, config.patch_size, config.patch_size, bias=False)
        self.drop = PatchDropout()
        self.norm_pre = nn.LayerNorm(width, config.norm_eps)
        self.blocks = build_blocks(config)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.pool = QueryPool(
            width=width,
            heads=config.pool_heads,
            mlp_width=config.pool_mlp_width,
            activation=config.activation,
            eps=config.norm_eps,
        )
        self.projection = nn.Identity() if embed_dim is None else nn.Linear(width, embed_dim)

    def init(self) -> None:
        """Fill every parameter: tables and projection as the published code does, all else by
        CLIP's table.

        | parameter                     | value                          |
        | ----------------------------- | ------------------------------ |
        | class_token, positions        | N(0, 1 / width)                |
        | patch.weight                  | N(0, 1 / fan in)               |
        | norms                         | gain 1, bias 0                 |
        | blocks                        | see `init_blocks`              |
        | pool.query                    | N(0, 1)                        |
        | pool (matrices, biases)       | N(0, 1 / fan in), 0            |
        | projection.weight, bias       | N(0, 1 / width), 0             |
        """
        std = self.width**-0.5
        nn.init.normal_(self.positions, std=std)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=std)
        nn.init.normal_(self.patch.weight, std=self.patch.weight[0].numel() ** -0.5)
        for norm in (self.norm_pre, self.norm_post, self.pool.norm):
            norm.reset_parameters()
        init_blocks(self.blocks, self.width)
        nn.init.normal_(self.pool.query)
        pool = (self.pool.qkv, self.pool.out, self.pool.mlp.up, self.pool.mlp.down)
        for linear in (*pool, self.projection):
            if isinstance(linear, nn.Linear):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
                nn.init.zeros_(linear.bias)

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"], masked: Masked | None = None
    ) -> tuple[Float[Tensor, "batch tokens width"], Rotary]:
        """The first block's input, the class token first, and what turns queries and keys."""
        config = self.config
        self._check_pictures(pixels, config.image_size)
        # [batch, width, rows, columns] -> [batch, patches, width]
        x = hide(self.patch(pixels).flatten(2).transpose(1, 2), masked)
        x = x + self.positions[self.class_tokens :].to(x.dtype)
        # A kept patch knows where it stood: its position was added before, and it turns by its own
        # place in the picture, not by its place among the kept.
        kept = self.drop.choose(x)
        rotary = rotary_table(
            config.side,
            config.rotary_grid,
            self.width // config.heads,
            x.device,
            first=self.class_tokens,
            columns_first=True,
        )
        if kept is not None:
            x, rotary = take_patches(x, kept), rotary[:, kept]
        if self.class_token is not None:
            first = (self.class_token + self.positions[0]).to(x.dtype).expand(x.shape[0], 1, -1)
            x, rotary = torch.cat([first, x], dim=1), with_class_token(rotary)
        return self.norm_pre(x), rotary.to(x.dtype)[..., None, None, :]

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
        one; patches are [:, class_tokens:]. The feature is what the pool reads of all tokens. It
        alone is projected: there are no projected tokens."""
        x, rotary = self.embed(x, masked)
        for block in self.blocks:
            x = block(x, rotary=rotary)
        normed = self.norm_post(x)
        feature = self.pool(normed)
        chosen = normed if tokens == "normed" else self._select(x, tokens, self.norm_post)
        return TowerOutput(chosen, feature, self.projection(feature))

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What the pool would give if it attended to this patch alone."""
        patches = self(pixels, "normed").tokens[:, self.class_tokens :]
        return self.projection(self.pool.read_each(patches))

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def flops(self) -> int:
        """Of `forward` for one picture; a multiply-add counts two."""
        c, tokens = self.config, len(self.positions)
        total = 2 * c.side**2 * 3 * c.patch_size**2 * c.width
        total += c.layers * block_flops(tokens, c.width, c.mlp_width)
        total += self.pool.flops(tokens)
        if isinstance(self.projection, nn.Linear):
            total += 2 * self.projection.weight.numel()
        return total
