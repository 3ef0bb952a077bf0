"""open_clip's own vision transformer, `model.visual`, part by part by its names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections.abc import Collection
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.parts.attention import AttentionalPooler
from diptych.compat.parts.layers import (
    Layer,
    LayerNorm,
    PatchDropout,
    activation_layer,
    norm_layer_of,
)
from diptych.compat.parts.locks import Group, NamedGroups, groups_of, lock_groups, named_groups
from diptych.compat.parts.stack import Transformer
from diptych.compat.utils import to_2tuple
from diptych.errors import ConfigError
from diptych.families.clip.layouts.towers import VitSizes
from diptych.families.clip.layouts.towers import mlp_ratio as ratio_of
from diptych.models.tower import check_batch

V = TypeVar("V", bound="VisionTransformer")


class VisionTransformer(nn.Module):
    """Pixels to vectors. What stands in its parts is what a call computes: parts may be hooked,
    replaced, cut and taken away, `proj` and `ln_post` among them. The last seven options are of the
    blocks: see `Transformer`.

    >>> import torch
    >>> from diptych.compat.transformer import VisionTransformer
    >>> made = VisionTransformer(32, 16, width=64, layers=1, heads=2, mlp_ratio=4.0, output_dim=8)
    >>> made(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8])
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        ls_init_value: float | None = None,
        attentional_pool: bool | str = False,
        attn_pooler_queries: int = 256,
        attn_pooler_heads: int = 8,
        output_dim: int = 512,
        patch_dropout: float = 0.0,
        no_ln_pre: bool = False,
        pos_embed_type: str = "learnable",
        pool_type: str = "tok",
        final_ln_after_pool: bool = False,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        output_tokens: bool = False,
        block_type: str | None = None,
        qk_norm: bool = False,
        scaled_cosine_attn: bool = False,
        scale_heads: bool = False,
        scale_attn_inner: bool = False,
        scale_attn: bool = False,
        scale_fc: bool = False,
    ):
        """Raises ConfigError for a `pool_type` or a `pos_embed_type` of models that nobody
        published, and for an unknown `attentional_pool`."""
        super().__init__()
        _check(pool_type, pos_embed_type, attentional_pool)
        self.image_size: tuple[int, int] = to_2tuple(image_size)
        """In pixels."""
        self.input_resolution = image_size
        """The same, as OpenAI's models say it."""
        self.patch_size: tuple[int, int] = to_2tuple(patch_size)
        rows, columns = (side // patch for side, patch in zip(self.image_size, self.patch_size))
        self.grid_size = (rows, columns)
        """Patches along the sides."""
        self.output_dim = output_dim
        """Width of the pooled vectors."""
        self.output_tokens = output_tokens
        """Whether a call gives (pooled, tokens)."""
        self.pool_type, self.final_ln_after_pool = pool_type, final_ln_after_pool
        self.conv1 = nn.Conv2d(3, width, self.patch_size, self.patch_size, bias=False)
        std = width**-0.5  # `width` numbers of variance 1 / width: a token of length 1
        self.class_embedding = nn.Parameter(std * torch.randn(width))
        self.positional_embedding = nn.Parameter(std * torch.randn(rows * columns + 1, width))
        self.patch_dropout: nn.Module = PatchDropout(patch_dropout)
        self.ln_pre = nn.Identity() if no_ln_pre else norm_layer(width)
        self.transformer = Transformer(
            width,
            layers,
            heads,
            mlp_ratio,
            ls_init_value,
            act_layer,
            norm_layer,
            block_type=block_type,
            qk_norm=qk_norm,
            scaled_cosine_attn=scaled_cosine_attn,
            scale_heads=scale_heads,
            scale_attn_inner=scale_attn_inner,
            scale_attn=scale_attn,
            scale_fc=scale_fc,
        )
        self.attn_pool: AttentionalPooler | None = None
        self.attn_pool_contrastive: AttentionalPooler | None = None
        """The second pool, of one query."""
        two_pools = isinstance(attentional_pool, str)
        self.attn_pool_type = attentional_pool if two_pools else ""
        """`cascade`, `parallel`, or empty: there are no two pools."""
        normed = width
        if attentional_pool:
            self.attn_pool = AttentionalPooler(
                output_dim, width, attn_pooler_heads, attn_pooler_queries
            )
            normed = width if two_pools else output_dim
        if two_pools:
            self.pool_type = "none"
            read = output_dim if attentional_pool == "cascade" else width
            self.attn_pool_contrastive = AttentionalPooler(output_dim, read, attn_pooler_heads, 1)
        self.ln_post: nn.Module = norm_layer(normed)
        self.proj: nn.Parameter | None = None
        if not two_pools:  # which answer in the shared space
            self.proj = nn.Parameter(std * torch.randn(normed, output_dim))

    @classmethod
    def of(cls: type[V], sizes: VitSizes, options: dict[str, Any], output_dim: int) -> V:
        """The tower of this configuration; `options`: the `vision_cfg` of the same."""
        made = cls.__new__(cls)
        own = ("attentional_pool", "attn_pooler_queries", "attn_pooler_heads", "pool_type")
        own += ("final_ln_after_pool", "output_tokens", "ls_init_value")
        VisionTransformer.__init__(
            made,
            sizes.image_size,
            sizes.patch_size,
            sizes.width,
            sizes.layers,
            sizes.heads,
            ratio_of(sizes.width, sizes.mlp_width),
            output_dim=output_dim,
            no_ln_pre=not sizes.pre_norm,
            act_layer=activation_layer(sizes.activation),
            norm_layer=norm_layer_of(sizes.norm_eps),
            **{name: options[name] for name in own if name in options},
        )
        return made

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
        lock_groups(self._groups(), unlocked_groups)

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """The same groups by name, the input's first; `pooler_in_head` has no meaning here."""
        groups = self._groups()
        return named_groups(groups, len(groups) > len(self.transformer.resblocks) + 1)

    def _groups(self) -> list[Group]:
        front = [self.conv1, self.class_embedding, self.positional_embedding, self.ln_pre]
        if self.attn_pool_contrastive is None:
            behind, head = [self.attn_pool, self.ln_post], [self.proj]
        else:
            behind, head = [self.ln_post], [self.attn_pool, self.attn_pool_contrastive, self.proj]
        return groups_of(front, self.transformer.resblocks, behind, head)

    def init_parameters(self) -> None:
        """Nothing: what the constructor drew stays, as open_clip's method leaves it."""

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        self.transformer.set_grad_checkpointing(enable, impl)

    def no_weight_decay(self) -> set[str]:
        """Tables without weight decay, beside what has one dimension."""
        return {"positional_embedding", "class_embedding"}

    def _embeds(self, x: Tensor) -> Tensor:
        check_batch(x, "pictures", "3", "height", "width")
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
        if self.attn_pool is not None and self.attn_pool_contrastive is not None:
            x = self.ln_post(x)
            tokens = self.attn_pool(x)
            read = tokens if self.attn_pool_type == "cascade" else x
            return self.attn_pool_contrastive(read)[:, 0], tokens
        if self.attn_pool is not None:
            x = self.attn_pool(x)
        elif self.final_ln_after_pool:
            pooled, tokens = self._global_pool(x)
            return self.ln_post(pooled), tokens
        return self._global_pool(self.ln_post(x))

    def _global_pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.pool_type == "none":
            return x, x
        if self.pool_type == "avg_all":
            return x.mean(dim=1), x[:, 1:]
        return x[:, 1:].mean(dim=1) if self.pool_type == "avg" else x[:, 0], x[:, 1:]

    def _project(self, pooled: Tensor) -> Tensor:
        return pooled if self.proj is None else pooled @ self.proj

    def _ordered(self, x: Tensor) -> Tensor:
        """[batch, length, width] <-> what the blocks take."""
        return x.transpose(0, 1) if self.transformer.length_first else x


def _check(pool_type: str, pos_embed_type: str, attentional_pool: bool | str) -> None:
    if pool_type not in ("tok", "avg", "avg_all", "none"):
        raise ConfigError(f"pool_type {pool_type!r}: tok, avg, avg_all or none")
    if pos_embed_type != "learnable":
        raise ConfigError(f"pos_embed_type {pos_embed_type!r}: positions are learnable here")
    if attentional_pool not in (True, False, "cascade", "parallel"):
        raise ConfigError(
            f"attentional_pool {attentional_pool!r}: true, as the published CoCa models have it, "
            "cascade, parallel, or false"
        )
