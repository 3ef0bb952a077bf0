"""MaMMUT's decoder, which open_clip uses as text tower and as decoder, by its names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py, main branch (June 2026)
"""

from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.compat.parts.attention import context_attn_mask_from_valid
from diptych.compat.parts.blocks import ResidualAttentionBlock
from diptych.compat.parts.layers import Layer, LayerNorm
from diptych.compat.parts.locks import (
    NamedGroups,
    check_norms_frozen,
    groups_of,
    lock_groups,
    named_groups,
)
from diptych.compat.parts.stack import Transformer, init_blocks, init_constants
from diptych.compat.parts.text_parts import causal_mask
from diptych.nn.padding import mean_of_real, real_tokens

D = TypeVar("D", bound="MultimodalDecoder")


class TwoPasses(nn.Module):
    """A decoder that is text tower, too: both passes of `forward`."""

    def forward(
        self,
        text: Int[Tensor, "batch length"],
        text_valid: Tensor | None = None,
        context: Float[Tensor, "batch tokens width"] | None = None,
        context_valid: Tensor | None = None,
        mode: str = "caption",
        return_hidden: bool = False,
    ) -> Tensor:
        """Vectors [batch, output_dim], or logits [batch, length, vocab_size]; with `return_hidden`
        what `lm_head` makes logits of. `context`: a picture's tokens, for captions alone, and
        `context_valid` which of them aren't padding (None: all). `text_valid`: which ids aren't
        padding (None: those that aren't `pad_id`); captions don't ask, nor who sees padding.

        Raises AssertionError, as open_clip does, for captions without a picture and vectors with
        one, and ValueError for another mode.
        """
        if mode not in ("contrastive", "caption"):
            raise ValueError(f"mode {mode!r} is neither 'contrastive' nor 'caption'")
        if mode == "contrastive":
            if context is not None:
                raise AssertionError("the contrastive pass reads no picture: leave out context")
            return self._vectors(text, text_valid)
        if context is None:
            raise AssertionError("the caption pass reads a picture: it needs context")
        hidden = self._captions(text, context, context_valid)
        return hidden if return_hidden else self._logits(hidden)

    def _vectors(self, text: Int[Tensor, "batch length"], text_valid: Tensor | None) -> Tensor:
        """Vectors of texts, [batch, output_dim]."""
        raise NotImplementedError

    def _captions(self, text: Tensor, context: Tensor, context_valid: Tensor | None) -> Tensor:
        """What logits are made of, [batch, length, width]."""
        raise NotImplementedError

    def _logits(self, hidden: Float[Tensor, "batch length width"]) -> Tensor:
        """[batch, length, vocab_size]."""
        raise NotImplementedError


class MultimodalDecoder(TwoPasses, Transformer):  # pyright: ignore[reportIncompatibleMethodOverride]
    """Ids to vectors (`mode` "contrastive": each token sees all others) or to logits of the next
    tokens ("caption": those before it, and behind every `cross_attn_ratio`th block a picture).

    | option         | what it says                                                               |
    | -------------- | -------------------------------------------------------------------------- |
    | `pool_type`    | whose mean the vector is: "avg" the text's tokens, "avg_all" all places    |
    | `use_pad_mask` | whether no token sees padding                                              |
    | `proj_type`    | "none", or "linear": a projection of the mean to `output_dim`              |
    | `has_mlp`      | whether blocks in front of a reader of pictures have an MLP (LAION's fork) |

    >>> import torch
    >>> from diptych.compat.transformer import MultimodalDecoder
    >>> made = MultimodalDecoder(8, vocab_size=30, width=16, heads=2, layers=2)
    >>> ids = torch.tensor([[3, 4, 0]])
    >>> made(ids, mode="contrastive").shape, made(ids, context=torch.zeros(1, 5, 16)).shape
    (torch.Size([1, 16]), torch.Size([1, 3, 30]))
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
        cross_attn_ratio: int = 1,
        output_dim: int | None = 512,
        proj_type: str = "none",
        pool_type: str = "avg",
        use_pad_mask: bool = True,
        pad_id: int = 0,
        bos_id: int | None = None,
        eos_id: int | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        has_mlp: bool = True,
    ):
        """Raises AssertionError, as open_clip does, for another `pool_type`, and for readers behind
        no block."""
        if pool_type not in ("avg", "avg_all"):
            raise AssertionError(f"pool_type {pool_type!r}: avg or avg_all")
        if not 1 <= cross_attn_ratio <= layers:
            raise AssertionError(f"cross_attn_ratio {cross_attn_ratio} lies from 1 to {layers}")
        of_block = (heads, mlp_ratio, ls_init_value, act_layer, norm_layer)
        super().__init__(width, layers, *of_block)
        self.context_length, self.vocab_size, self.heads = context_length, vocab_size, heads
        self.output_dim = output_dim
        self.pad_id, self.bos_id, self.eos_id = pad_id, bos_id, eos_id
        self.pool_type, self.use_pad_mask = pool_type, use_pad_mask
        self.cross_step = cross_attn_ratio
        """Readers stand behind blocks 0, cross_step, 2 cross_step, ..."""
        before = range(0, layers, cross_attn_ratio)
        if not has_mlp:
            for place in before:
                self.resblocks[place] = AttentionBlock(width, *of_block)
        self.cross_attn: Any = nn.ModuleList(
            ResidualAttentionBlock(width, *of_block, True) for _ in before
        )
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.ln_final: nn.Module = norm_layer(width)
        self.lm_head = nn.Parameter(torch.empty(width, vocab_size))
        projects = proj_type != "none" and bool(output_dim)
        self.text_projection = (
            nn.Parameter(torch.empty(width, output_dim)) if projects and output_dim else None
        )
        self.attn_mask: Tensor
        self.register_buffer("attn_mask", torch.empty(0), persistent=False)
        self.init_parameters()

    @classmethod
    def of(cls: type[D], options: dict[str, Any], output_dim: int, **layers: Any) -> D:
        """The decoder of a `multimodal_cfg`."""
        own = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
        own += ("cross_attn_ratio", "proj_type", "pool_type", "use_pad_mask", "pad_id", "has_mlp")
        said = {name: options[name] for name in own if name in options}
        return cls(output_dim=output_dim, **said, **layers)

    def init_parameters(self) -> None:
        """Fill every parameter and the mask, wherever the module was built: token_embedding N(0,
        0.02^2), positions N(0, 0.01^2), blocks and readers as `nn.block.init_blocks`, both as of so
        many blocks as there are of text; lm_head and text_projection N(0, 1 / width)."""
        init_constants(self)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        init_blocks([*self.resblocks, *self.cross_attn], self.width, len(self.resblocks))
        for matrix in (self.lm_head, self.text_projection):
            if matrix is not None:
                nn.init.normal_(matrix, std=self.width**-0.5)
        self.set_mask()

    def set_mask(self) -> None:
        """Make the causal mask."""
        self.attn_mask = causal_mask(self.context_length, self.positional_embedding.device)

    @property
    def lm_head_params(self) -> tuple[Float[Tensor, "vocab_size width"], None]:
        """The vocabulary's matrix, as a linear layer has it, and its bias, of which there is
        none."""
        return self.lm_head.T, None

    @property
    def dtype(self) -> torch.dtype:
        """Of the blocks' matrices."""
        return self.cross_attn[0].get_weight_dtype()

    def get_cast_dtype(self) -> torch.dtype:
        """`dtype`."""
        return self.dtype

    def _vectors(self, text: Int[Tensor, "batch length"], text_valid: Tensor | None) -> Tensor:
        """See `TwoPasses`."""
        x, valid, hidden = self._embed(text), real_tokens(text, self.pad_id, text_valid), None
        if self.use_pad_mask:
            hidden = self._for_heads(~valid[:, None], x.shape[1])
        for block in self.resblocks:
            x = self.run(block, x, attn_mask=hidden)
        x = self.ln_final(x)
        pooled = mean_of_real(x, valid) if self.pool_type == "avg" else x.mean(dim=1)
        return pooled if self.text_projection is None else pooled @ self.text_projection

    def _captions(self, text: Tensor, context: Tensor, context_valid: Tensor | None) -> Tensor:
        """See `TwoPasses`."""
        x, length = self._embed(text), text.shape[1]
        mask, hidden = self.attn_mask[:length, :length], None
        seen = context_attn_mask_from_valid(context_valid)
        if seen is not None:
            hidden = self._for_heads(~seen[:, 0], length)
        for place, block in enumerate(self.resblocks):
            x = self.run(block, x, attn_mask=mask)
            number, rest = divmod(place, self.cross_step)
            if not rest:
                reader = self.cross_attn[number]
                x = self.run(reader, x, k_x=context, v_x=context, attn_mask=hidden)
        return self.ln_final(x)

    def _logits(self, hidden: Float[Tensor, "batch length width"]) -> Tensor:
        """See `TwoPasses`."""
        return hidden @ self.lm_head.to(hidden.dtype)

    def _embed(self, text: Tensor) -> Float[Tensor, "batch length width"]:
        x = self.token_embedding(text).to(self.dtype)
        return x + self.positional_embedding[: text.shape[1]].to(x.dtype)

    def _for_heads(self, hidden: Bool[Tensor, "batch 1 tokens"], length: int) -> Tensor:
        """[batch * heads, length, tokens], as torch's attention takes it."""
        return hidden.expand(-1, length, -1).repeat_interleave(self.heads, 0)

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze all but the last groups of layers; see `layer_groups`. Raises AssertionError where
        norms are to be trained."""
        check_norms_frozen(freeze_layer_norm)
        lock_groups([parts for _, parts in self.layer_groups()], unlocked_layers)

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """The tables, each block with the reader behind it, the last with the norm, and the
        projections; `pooler_in_head` has no meaning here."""
        blocks: list[Any] = []
        for place, block in enumerate(self.resblocks):
            number, rest = divmod(place, self.cross_step)
            blocks.append(block if rest else nn.ModuleList([block, self.cross_attn[number]]))
        front = [self.token_embedding, self.positional_embedding]
        heads = [self.lm_head, self.text_projection]
        return named_groups(groups_of(front, blocks, [self.ln_final], heads), True)

    def no_weight_decay(self) -> set[str]:
        """Tables without weight decay, beside what has one dimension."""
        return {"positional_embedding"}

    def forward_intermediates(self, *args: Any, **options: Any) -> Any:
        """Raises AssertionError: there are none of a decoder."""
        raise AssertionError("forward_intermediates is not implemented for MultimodalDecoder")


class AttentionBlock(ResidualAttentionBlock):
    """x + attention(norm(x)): a block without an MLP, as LAION's fork has them."""

    ln_2: Any
    mlp: Any

    def __init__(self, *args: Any):
        super().__init__(*args)
        del self.ln_2, self.mlp

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """See `ResidualAttentionBlock`."""
        return q_x + self.ls_1(self.attention(self.ln_1(q_x), attn_mask=attn_mask))
