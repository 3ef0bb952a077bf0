"""open_clip's own text transformer part by part by its names: `model.text`, or beside the image
tower, as its `CLIP` has it.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.blocks import LayerNorm, Transformer, causal_mask, text_global_pool
from diptych.compat.locks import check_norms_frozen, groups_of, lock_groups
from diptych.errors import ConfigError
from diptych.families.clip.config import TransformerTextConfig

PARTS = (
    *("token_embedding", "cls_emb", "positional_embedding"),
    *("transformer", "ln_final", "text_projection"),
)
"""In the order in which data runs through them."""


@runtime_checkable
class TextParts(Protocol):
    """What has the parts of a text transformer."""

    token_embedding: nn.Embedding
    cls_emb: Tensor | None
    positional_embedding: Tensor
    transformer: Transformer
    ln_final: nn.Module
    text_projection: Any
    attn_mask: Tensor | None
    context_length: int


class Reading(NamedTuple):
    """Where a text's vector is read."""

    pool_type: str
    eos_id: int | None
    pad_id: int


class TextTransformer(nn.Module):
    """Ids to vectors. What stands in its parts is what a call computes."""

    def __init__(
        self,
        sizes: TransformerTextConfig,
        options: dict[str, Any],
        embed_dim: int,
        length_first: bool = False,
    ):
        """Without values. `options`: the `text_cfg` of the same tower."""
        super().__init__()
        width, self.context_length = sizes.width, sizes.context_length
        self.width = width
        self.vocab_size = sizes.vocab_size
        self.output_dim = embed_dim
        self.heads = sizes.heads
        self.output_tokens = bool(options.get("output_tokens", False))
        """Whether a call gives (pooled, tokens)."""
        self.pool_type: str = options.get("pool_type", "argmax")
        self.eos_id: int | None = options.get("eos_id", 2)
        self.pad_id: int = options.get("pad_id", 0)
        self.token_embedding = nn.Embedding.from_pretrained(
            torch.empty(sizes.vocab_size, width), freeze=False
        )
        self.num_pos = self.context_length + bool(options.get("embed_cls"))
        """Places; one more than ids where a class token stands behind them."""
        self.cls_emb: Tensor | None = None
        if options.get("embed_cls"):
            self.cls_emb = nn.Parameter(torch.empty(width))
        self.positional_embedding: Tensor = nn.Parameter(torch.empty(self.num_pos, width))
        self.transformer = Transformer(sizes, length_first)
        self.ln_final: nn.Module = LayerNorm(width, sizes.norm_eps)
        self.text_projection: Any = None
        if options.get("proj_bias"):
            self.text_projection = nn.Linear(width, embed_dim)
        elif options.get("proj_type", "linear") != "none":
            self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", None, persistent=False)
        self._causal = not options.get("no_causal_mask")

    def set_mask(self) -> None:
        """Make the causal mask, where the tower has one; with `length_first`, the blocks have it,
        too."""
        if not self._causal:
            return
        self.attn_mask = causal_mask(self.num_pos).to(self.positional_embedding.device)
        for block in () if self.transformer.batch_first else self.transformer.resblocks:
            block.attn_mask = self.attn_mask

    @property
    def reading(self) -> Reading:
        """Where the vector is read."""
        return Reading(self.pool_type, self.eos_id, self.pad_id)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.transformer.get_cast_dtype()

    def forward(self, text: Int[Tensor, "batch length"]) -> Any:
        """Pooled vectors, or with `output_tokens` (pooled, tokens)."""
        pooled, tokens = encode(self, text, self.reading)
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

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass."""
        self.transformer.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Tables without weight decay, beside what has one dimension."""
        return {"positional_embedding"} | ({"cls_emb"} if self.cls_emb is not None else set())


def encode(
    parts: TextParts, text: Int[Tensor, "batch length"], reading: Reading
) -> tuple[Tensor, Tensor]:
    """Pooled vectors and tokens, those behind the final norm, or as the last block leaves them
    beside a class token."""
    x, mask = _embed(parts, text, reading)
    return _read(parts, _ordered(parts, parts.transformer(x, attn_mask=mask)), text, reading)


def intermediates(
    parts: TextParts,
    text: Int[Tensor, "batch length"],
    reading: Reading,
    indices: int | Collection[int] | None = None,
    stop_early: bool = False,
    normalize_intermediates: bool = False,
    intermediates_only: bool = False,
    output_fmt: str = "NLC",
    output_extra_tokens: bool = False,
) -> dict[str, Any]:
    """What the blocks of `indices` give: `text_intermediates`, tokens [batch, length, width]; where
    asked for `text_intermediates_suffix`, the class tokens of a tower that has them; and
    `text_features`, the pooled vectors."""
    if output_fmt != "NLC":
        raise AssertionError("Output format must be NLC.")
    x, mask = _embed(parts, text, reading)
    last, found = parts.transformer.forward_intermediates(x, mask, indices, stop_early)
    found = [_ordered(parts, each) for each in found]
    if normalize_intermediates:
        found = [parts.ln_final(each) for each in found]
    output: dict[str, Any] = {}
    if parts.cls_emb is not None:
        if output_extra_tokens:
            output["text_intermediates_suffix"] = [each[:, -1:] for each in found]
        found = [each[:, :-1] for each in found]
    output["text_intermediates"] = found
    if not intermediates_only:
        output["text_features"] = _read(parts, _ordered(parts, last), text, reading)[0]
    return output


def lock(parts: TextParts, unlocked_layers: int) -> None:
    """Freeze all but the last groups of layers."""
    front = [parts.token_embedding, parts.positional_embedding, parts.cls_emb]
    blocks = parts.transformer.resblocks
    lock_groups(groups_of(front, blocks, [parts.ln_final], parts.text_projection), unlocked_layers)


def _embed(
    parts: TextParts, text: Int[Tensor, "batch length"], reading: Reading
) -> tuple[Tensor, Tensor | None]:
    """The first block's input, and what is added to scores."""
    dtype, length = parts.transformer.get_cast_dtype(), text.shape[1]
    seen = parts.attn_mask is None and parts.transformer.batch_first
    if length > parts.context_length or (seen and length != parts.context_length):
        most = "texts padded to" if seen else "at most"
        raise ConfigError(f"{length} tokens; this tower takes {most} {parts.context_length}")
    x = parts.token_embedding(text).to(dtype)
    if parts.cls_emb is not None:
        x = torch.cat([x, parts.cls_emb.to(dtype).expand(x.shape[0], 1, -1)], dim=1)
        length += 1
    x = x + parts.positional_embedding[:length].to(dtype)
    mask = None if parts.attn_mask is None else parts.attn_mask[:length, :length]
    if parts.cls_emb is not None:
        mask = _padding(parts, text, reading.pad_id, mask)
    if parts.transformer.batch_first:
        return x, mask
    return x.transpose(0, 1), mask


def _padding(
    parts: TextParts, text: Tensor, pad_id: int, mask: Tensor | None
) -> Float[Tensor, "rows length length"]:
    """The mask with padding hidden, for each row and head. It is one place too far to the right, as
    CoCa was trained (see `families/coca/text.py`)."""
    real = nn.functional.pad(text != pad_id, (1, 0), value=True)
    hidden = torch.zeros(real.shape, device=text.device).masked_fill(~real, -torch.inf)[:, None]
    added = hidden.expand(-1, real.shape[1], -1) if mask is None else hidden + mask
    return added.repeat_interleave(parts.transformer.resblocks[0].attn.num_heads, 0)


def _read(
    parts: TextParts, x: Float[Tensor, "batch length width"], text: Tensor, reading: Reading
) -> tuple[Tensor, Tensor]:
    if parts.cls_emb is not None:  # which stands behind all others
        pooled, tokens = parts.ln_final(x[:, -1]), x[:, :-1]
    else:
        tokens = parts.ln_final(x)
        pooled = text_global_pool(tokens, text, reading.pool_type, reading.eos_id)
    projection = parts.text_projection
    if projection is None:
        return pooled, tokens
    if isinstance(projection, nn.Module):
        return projection(pooled), tokens
    return pooled @ projection, tokens


def _ordered(parts: TextParts, x: Tensor) -> Tensor:
    """What the blocks give -> [batch, length, width]."""
    return x if parts.transformer.batch_first else x.transpose(0, 1)
