"""open_clip's own vision transformer, `model.visual`, part by part by its names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.blocks import (
    AttentionalPooler,
    LayerNorm,
    PatchDropout,
    Transformer,
)
from diptych.compat.locks import groups_of, lock_groups
from diptych.errors import ConfigError
from diptych.families.clip.layouts.towers import VitSizes


class VisionTransformer(nn.Module):
    """Pixels to vectors. What stands in its parts is what a call computes: parts may be hooked,
    replaced, cut and taken away, `proj` and `ln_post` among them."""

    def __init__(
        self, sizes: VitSizes, options: dict[str, Any], embed_dim: int, length_first: bool = False
    ):
        """Without values. `options`: the `vision_cfg` of the same tower."""
        super().__init__()
        width, patch = sizes.width, sizes.patch_size
        grid = sizes.image_size // patch
        self.image_size = (sizes.image_size, sizes.image_size)
        """In pixels."""
        self.input_resolution = sizes.image_size
        """The same, as OpenAI's models say it."""
        self.patch_size = (patch, patch)
        self.grid_size = (grid, grid)
        """Patches along the sides."""
        self.output_dim = embed_dim
        """Width of the pooled vectors."""
        self.output_tokens = bool(options.get("output_tokens", False))
        """Whether a call gives (pooled, tokens)."""
        self.pool_type: str = options.get("pool_type", "tok")
        self.final_ln_after_pool: bool = options.get("final_ln_after_pool", False)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(grid**2 + 1, width))
        self.patch_dropout: nn.Module = PatchDropout()
        eps = sizes.norm_eps
        self.ln_pre = LayerNorm(width, eps) if sizes.pre_norm else nn.Identity()
        self.transformer = Transformer(sizes, length_first)
        self.attn_pool: AttentionalPooler | None = None
        if options.get("attentional_pool"):
            heads, queries = options["attn_pooler_heads"], options["attn_pooler_queries"]
            self.attn_pool = AttentionalPooler(embed_dim, width, heads, queries)
            width = embed_dim
        self.ln_post = LayerNorm(width, eps)
        self.proj: nn.Parameter | None = nn.Parameter(torch.empty(width, embed_dim))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.conv1.weight.dtype

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Any:
        """Pooled vectors, or with `output_tokens` (pooled, patch tokens). Pixels are cast to the
        precision of the weights. Raises ConfigError for pictures of another size."""
        x = self._ordered(self.transformer(self._ordered(self._embeds(x))))
        pooled, tokens = self._pool(x)
        pooled = self._project(pooled)
        return (pooled, tokens) if self.output_tokens else pooled

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch 3 height width"],
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> dict[str, Any]:
        """What the blocks of `indices` give: `image_intermediates`, as grids [batch, width, rows,
        columns] or tokens [batch, patches, width] (`output_fmt` NLC); where asked for
        `image_intermediates_prefix`, the class tokens; and `image_features`, the pooled vectors."""
        if output_fmt not in ("NCHW", "NLC"):
            raise AssertionError("Output format must be one of NCHW or NLC.")
        rows, columns = (side // patch for side, patch in zip(x.shape[2:], self.patch_size))
        found = self.transformer.forward_intermediates(
            self._ordered(self._embeds(x)), indices=indices, stop_early=stop_early
        )
        last, behind = self._ordered(found[0]), [self._ordered(each) for each in found[1]]
        if normalize_intermediates:
            behind = [self.ln_post(each) for each in behind]
        patches = [each[:, 1:] for each in behind]
        if output_fmt == "NCHW":
            patches = [each.transpose(1, 2).unflatten(2, (rows, columns)) for each in patches]
        output: dict[str, Any] = {"image_intermediates": [each.contiguous() for each in patches]}
        if output_extra_tokens:
            output["image_intermediates_prefix"] = [each[:, :1] for each in behind]
        if not intermediates_only:
            output["image_features"] = self._project(self._pool(last)[0])
        return output

    def prune_intermediate_layers(
        self,
        indices: int | Collection[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drop what isn't needed for the blocks of `indices`, which are given back as numbers."""
        chosen = self.transformer.prune_intermediate_layers(indices)
        if prune_norm:
            self.ln_post = nn.Identity()
        if prune_head:
            self.proj = None
        return chosen

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last groups of layers: the projection, the last block with the norm
        behind it, each block, what makes the first one's input. There are no batch norms."""
        front = [self.conv1, self.class_embedding, self.positional_embedding, self.ln_pre]
        behind = [self.attn_pool, self.ln_post]
        groups = groups_of(front, self.transformer.resblocks, behind, self.proj)
        lock_groups(groups, unlocked_groups)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass."""
        self.transformer.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Tables without weight decay, beside what has one dimension."""
        return {"positional_embedding", "class_embedding"}

    def _embeds(self, x: Tensor) -> Tensor:
        x = self.conv1(x.to(self.dtype))
        if x.shape[2] * x.shape[3] + 1 != len(self.positional_embedding):
            raise ConfigError(
                f"pictures of {x.shape[2]} x {x.shape[3]} patches; this tower takes "
                f"{self.grid_size[0]} x {self.grid_size[1]}"
            )
        x = x.flatten(2).transpose(1, 2)
        first = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype)
        return self.ln_pre(self.patch_dropout(x))

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.attn_pool is not None:
            x = self.attn_pool(x)
        elif self.final_ln_after_pool:
            pooled, tokens = self._global_pool(x)
            return self.ln_post(pooled), tokens
        return self._global_pool(self.ln_post(x))

    def _global_pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.pool_type == "none":
            return x, x
        return x[:, 1:].mean(dim=1) if self.pool_type == "avg" else x[:, 0], x[:, 1:]

    def _project(self, pooled: Tensor) -> Tensor:
        return pooled if self.proj is None else pooled @ self.proj

    def _ordered(self, x: Tensor) -> Tensor:
        """[batch, length, width] <-> what the blocks take."""
        return x if self.transformer.batch_first else x.transpose(0, 1)
