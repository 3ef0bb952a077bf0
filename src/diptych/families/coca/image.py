"""CoCa's image tower (Yu et al. 2022, arXiv:2205.01917), and what both of its kinds begin with."""

from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.coca.config import CocaImageConfig, PooledVitConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import PatchDropout, PatchEmbedding
from diptych.nn.block import block_flops, build_blocks, init_blocks

C = TypeVar("C", bound=PooledVitConfig)


class PooledVit(Tower[C]):
    """Patches, a class token, positions, pre-norm blocks: what learned queries are to read."""

    @classmethod
    def check_projection(cls, config: C, embed_dim: int | None) -> None:
        """Raises ConfigError without a shared space, and for one that the pool's heads can't
        share: its queries are as wide."""
        super().check_projection(config, embed_dim)
        check_pool_heads(config.pool_heads, embed_dim)

    def __init__(self, config: C, embed_dim: int):
        super().__init__()
        self.config = config
        width, self.width = config.width, embed_dim
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(config.side**2 + 1, width))
        self.patch = PatchEmbedding(3, width, config.patch_size, config.patch_size, bias=False)
        self.drop = PatchDropout()
        self.norm_pre = nn.LayerNorm(width, config.norm_eps) if config.pre_norm else nn.Identity()
        self.blocks = build_blocks(config)

    def init(self) -> None:
        """Fill every parameter: CLIP's table, and the pools'.

        | parameter              | value                          |
        | ---------------------- | ------------------------------ |
        | class_token, positions | N(0, 1 / width)                |
        | projection.weight      | N(0, 1 / width)                |
        | patch.weight           | N(0, 1 / fan in)               |
        | norms                  | gain 1, bias 0                 |
        | blocks                 | see `nn.block.init_blocks`     |
        | pools                  | see `AttentionalPooler.init`   |
        """
        std = self.config.width**-0.5
        projections = (part.weight for part in self.children() if isinstance(part, nn.Linear))
        for parameter in (self.class_token, self.positions, *projections):
            nn.init.normal_(parameter, std=std)
        nn.init.normal_(self.patch.weight, std=self.patch.weight[0].numel() ** -0.5)
        for part in self.children():
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()
        init_blocks(self.blocks, self.config.width)
        for part in self.modules():
            if isinstance(part, AttentionalPooler):
                part.init()

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch tokens width"]:
        """The first block's input: the class token first, then the patches in reading order."""
        self._check_pictures(pixels, self.config.image_size)
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        first = (self.class_token + self.positions[0]).to(x.dtype).expand(x.shape[0], 1, -1)
        return self.norm_pre(torch.cat([first, self.drop(x + self.positions[1:])], dim=1))

    def _through(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch tokens width"]:
        """The last block's output."""
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        return x

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def flops(self) -> int:
        """Of `forward` for one picture, all of the decoder's queries; a multiply-add counts two."""
        c, tokens = self.config, len(self.positions)
        patches = 2 * (tokens - 1) * 3 * c.patch_size**2 * c.width
        return patches + c.layers * block_flops(tokens, c.width, c.mlp_width)


class CocaImageTower(PooledVit[CocaImageConfig]):
    """One pool of all queries.

    Its tokens are the queries' answers, the first of which is the picture's vector.

    >>> import torch
    >>> from diptych.families.coca import CocaImageConfig
    >>> from diptych.families.coca.image import CocaImageTower
    >>> config = CocaImageConfig(
    ...     image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16, queries=3,
    ...     pool_heads=2,
    ... )
    >>> tower = CocaImageTower(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 3, 6]), torch.Size([2, 6]), torch.Size([2, 6]))
    """

    class_tokens = 1

    def __init__(self, config: CocaImageConfig, embed_dim: int):
        super().__init__(config, embed_dim)
        self.pool = AttentionalPooler(config.queries, config.pool_heads, config.width, embed_dim)
        self.norm_post = nn.LayerNorm(embed_dim, config.norm_eps)
        self.projection = nn.Linear(embed_dim, embed_dim, bias=False)

    def forward(
        self, x: Float[Tensor, "batch 3 height wide"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Pixels to tokens, feature and pooled vector. With "none", the first query alone is
        computed."""
        read = self.pool(self._through(x), 1 if tokens == "none" else None)
        feature = self.norm_post(read[:, 0])
        chosen = self._select(read, tokens, self.norm_post, self.projection)
        return TowerOutput(chosen, feature, self.projection(feature))

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """What the first query would give if it attended to this patch alone."""
        patches = self._through(pixels)[:, 1:]
        read = self.pool(patches.flatten(0, 1)[:, None], 1)[:, 0]
        return self.projection(self.norm_post(read)).unflatten(0, patches.shape[:2])

    def flops(self) -> int:
        """See `PooledVit.flops`."""
        pool = self.pool.flops(len(self.positions))
        return super().flops() + pool + 2 * self.projection.weight.numel()


class AttentionalPooler(nn.Module):
    """Learned queries over all tokens (arXiv:2205.01917, §3.2), as open_clip has them: with a norm
    before queries and before keys, and nothing behind.

    >>> import torch
    >>> from diptych.families.coca.image import AttentionalPooler
    >>> pool = AttentionalPooler(queries=3, heads=2, width=8, wide=6)
    >>> pool.init()
    >>> pool(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 3, 6])
    """

    def __init__(self, queries: int, heads: int, width: int, wide: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(queries, wide))
        # Its epsilon isn't the tower's: open_clip gives it none.
        self.norm_query, self.norm_keys = nn.LayerNorm(wide), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(
            wide, heads, kdim=width, vdim=width, batch_first=True
        )

    def init(self) -> None:
        """Queries: N(0, 1); norms: gain 1, bias 0; matrices as torch fills them (Glorot), biases
        0."""
        nn.init.normal_(self.query)
        self.norm_query.reset_parameters()
        self.norm_keys.reset_parameters()
        attention = self.attention
        # One matrix where all widths are one, else three, and a row of biases.
        for weight in attention.parameters(recurse=False):
            if weight.ndim == 2:
                nn.init.xavier_uniform_(weight)
        attention.out_proj.reset_parameters()
        nn.init.zeros_(attention.in_proj_bias)
        nn.init.zeros_(attention.out_proj.bias)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        first: int | None = None,
        seen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch queries wide"]:
        """The tokens, of which those are read that are `seen` (None: all), by the `first` queries
        (None: by all)."""
        queries = self.norm_query(self.query[:first]).expand(x.shape[0], -1, -1)
        keys, hidden = self.norm_keys(x), None if seen is None else ~seen
        read = self.attention(queries, keys, keys, need_weights=False, key_padding_mask=hidden)
        return read[0]

    def flops(self, tokens: int) -> int:
        """Of `forward` for one picture of so many tokens; a multiply-add counts two."""
        queries, wide = self.query.shape
        width = self.norm_keys.normalized_shape[0]
        keys_values, ends = 2 * tokens * 2 * width * wide, 2 * queries * 2 * wide**2
        return keys_values + ends + 4 * queries * tokens * wide


def check_pool_heads(heads: int, embed_dim: int | None) -> None:
    """Raises ConfigError for queries that their heads can't share."""
    if embed_dim is not None and embed_dim % heads:
        raise ConfigError(f"embed_dim {embed_dim} is not a multiple of pool_heads {heads}")
