"""open_clip's own text transformer part by part by its names: `model.text`, or beside the image
tower, as its `CLIP` has it.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

import warnings
from collections.abc import Collection
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diptych.compat.parts.layers import Layer, LayerNorm, activation_layer, norm_layer_of
from diptych.compat.parts.locks import NamedGroups, check_norms_frozen
from diptych.compat.parts.stack import Transformer, init_blocks
from diptych.compat.parts.text_parts import (
    Reading,
    causal_mask,
    encode,
    intermediates,
    lock,
    text_layer_groups,
)
from diptych.errors import AssumptionWarning, ConfigError
from diptych.families.clip.config import TransformerTextConfig
from diptych.families.clip.layouts.towers import mlp_ratio as ratio_of

T = TypeVar("T", bound="TextTransformer")


class TextTransformer(nn.Module):
    """Ids to vectors. What stands in its parts is what a call computes.

    | option             | what it does                                                          |
    | ------------------ | --------------------------------------------------------------------- |
    | `embed_cls`        | a class token behind the text, at which the vector is read (CoCa)     |
    | `no_causal_mask`   | tokens see those behind them, too                                     |
    | `use_pad_mask`     | no token sees padding (with `no_causal_mask` alone)                   |
    | `correct_cls_mask` | beside a class token, hides the padding and not what is a place later |
    | `pool_type`        | where the vector is read: see `text_global_pool`                      |
    | the last seven     | of the blocks: see `Transformer`                                      |

    >>> import torch
    >>> from diptych.compat.transformer import TextTransformer
    >>> made = TextTransformer(8, vocab_size=30, width=16, heads=2, layers=1, output_dim=4)
    >>> made(torch.tensor([[28, 5, 29]])).shape
    torch.Size([1, 4])
    """

    def __init__(
        self,
        context_length: int = 77,
        vocab_size: int = 49408,
        width: int = 512,
        heads: int = 8,
        layers: int = 12,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        output_dim: int | None = 512,
        embed_cls: bool = False,
        no_causal_mask: bool = False,
        use_pad_mask: bool = False,
        correct_cls_mask: bool = False,
        pad_id: int = 0,
        eos_id: int = 2,
        pool_type: str = "argmax",
        proj_type: str = "linear",
        proj_bias: bool = False,
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
        """Raises ConfigError for a `pool_type` that isn't one, and warns of `use_pad_mask` where it
        has no effect."""
        super().__init__()
        if pool_type not in ("first", "last", "argmax", "eos", "none"):
            raise ConfigError(f"pool_type {pool_type!r}: first, last, argmax, eos or none")
        if use_pad_mask and not (no_causal_mask or embed_cls):
            why = "use_pad_mask has no effect on causal texts, whose padding comes last"
            warnings.warn(why, AssumptionWarning, stacklevel=2)
        self.context_length, self.vocab_size = context_length, vocab_size
        self.width, self.heads, self.output_dim = width, heads, output_dim
        self.output_tokens = output_tokens
        """Whether a call gives (pooled, tokens)."""
        self.pool_type, self.eos_id, self.pad_id = pool_type, eos_id, pad_id
        self.use_pad_mask, self.correct_cls_mask = use_pad_mask and no_causal_mask, correct_cls_mask
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.num_pos = context_length + embed_cls
        """Places; one more than ids where a class token stands behind them."""
        self.cls_emb: Tensor | None = nn.Parameter(torch.empty(width)) if embed_cls else None
        self.positional_embedding: Tensor = nn.Parameter(torch.empty(self.num_pos, width))
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
        self.ln_final: nn.Module = norm_layer(width)
        self.text_projection: Any = None
        if output_dim and proj_type != "none":
            self.text_projection = (
                nn.Linear(width, output_dim)
                if proj_bias
                else nn.Parameter(torch.empty(width, output_dim))
            )
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", None, persistent=False)
        self._causal = not no_causal_mask
        self.init_parameters()
        self.set_mask()

    @classmethod
    def of(
        cls: type[T], sizes: TransformerTextConfig, options: dict[str, Any], output_dim: int
    ) -> T:
        """The tower of this configuration; `options`: the `text_cfg` of the same."""
        made = cls.__new__(cls)
        own = ("pool_type", "eos_id", "pad_id", "proj_type", "proj_bias", "no_causal_mask")
        own += ("embed_cls", "correct_cls_mask", "output_tokens", "ls_init_value")
        TextTransformer.__init__(
            made,
            sizes.context_length,
            sizes.vocab_size,
            sizes.width,
            sizes.heads,
            sizes.layers,
            ratio_of(sizes.width, sizes.mlp_width),
            output_dim=output_dim,
            act_layer=activation_layer(sizes.activation),
            norm_layer=norm_layer_of(sizes.norm_eps),
            **{name: options[name] for name in own if name in options},
        )
        return made

    def init_parameters(self) -> None:
        """Fill tables, matrices of blocks and the projection, by CLIP's table: see
        `nn.block.init_blocks`; token_embedding N(0, 0.02^2), positions and class token N(0,
        0.01^2), text_projection N(0, 1 / width)."""
        for table, std in (
            (self.token_embedding.weight, 0.02),
            (self.positional_embedding, 0.01),
            (self.cls_emb, 0.01),
        ):
            if table is not None:
                nn.init.normal_(table, std=std)
        init_blocks(self.transformer.resblocks, self.width)
        projection = self.text_projection
        if isinstance(projection, nn.Linear):
            nn.init.normal_(projection.weight, std=self.width**-0.5)
            nn.init.zeros_(projection.bias)
        elif projection is not None:
            nn.init.normal_(projection, std=self.width**-0.5)

    def set_mask(self) -> None:
        """Make the causal mask, where the tower has one."""
        if self._causal:
            self.attn_mask = causal_mask(self.num_pos, self.positional_embedding.device)

    @property
    def reading(self) -> Reading:
        """Where the vector is read."""
        padding = (self.pad_id, self.use_pad_mask, self.correct_cls_mask)
        return Reading(self.pool_type, self.eos_id, *padding)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.transformer.get_cast_dtype()

    def forward(self, text: Int[Tensor, "batch length"], text_valid: Tensor | None = None) -> Any:
        """Pooled vectors, or with `output_tokens` (pooled, tokens); `text_valid`: see `encode`."""
        pooled, tokens = encode(self, text, self.reading, text_valid)
        return (pooled, tokens) if self.output_tokens else pooled

    def forward_intermediates(
        self, text: Int[Tensor, "batch length"], *args: Any, **options: Any
    ) -> dict[str, Any]:
        """See `intermediates`."""
        return intermediates(self, text, self.reading, *args, **options)

    def prune_intermediate_layers(
        self,
        indices: int | Collection[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drop what isn't needed for the blocks of `indices`, which are given back as numbers."""
        chosen = self.transformer.prune_intermediate_layers(indices)
        if prune_norm:
            self.ln_final = nn.Identity()
        if prune_head:
            self.text_projection = None
        return chosen

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze all but the last groups of layers: the projection, the last block with the norm
        behind it, each block, the tables. Raises AssertionError where norms are to be trained."""
        check_norms_frozen(freeze_layer_norm)
        lock(self, unlocked_layers)

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """The same groups by name, the input's first; `pooler_in_head` has no meaning here."""
        return text_layer_groups(self)

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        self.transformer.set_grad_checkpointing(enable, impl)

    def no_weight_decay(self) -> set[str]:
        """Tables without weight decay, beside what has one dimension."""
        return {"positional_embedding"} | ({"cls_emb"} if self.cls_emb is not None else set())
