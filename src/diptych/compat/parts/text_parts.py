"""What open_clip's own text transformer computes of its parts, wherever these stand: below
`model.text`, or beside the image tower, as its `CLIP` has them.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.compat.parts.locks import Group, NamedGroups, groups_of, lock_groups, named_groups
from diptych.compat.parts.stack import Transformer
from diptych.errors import ConfigError
from diptych.models.tower import check_batch

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
    """Where a text's vector is read, and which tokens aren't."""

    pool_type: str
    eos_id: int | None
    pad_id: int
    use_pad_mask: bool = False
    """Whether no token sees padding; beside a class token it is so anyway."""
    correct_cls_mask: bool = False
    """Whether the tokens hidden beside a class token are the padding's. Without it they are those
    one place to the right, as CoCa was trained (see `families/coca/text.py`)."""


def encode(
    parts: TextParts,
    text: Int[Tensor, "batch length"],
    reading: Reading,
    text_valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Pooled vectors and tokens, those behind the final norm, or as the last block leaves them
    beside a class token. `text_valid`, [batch, length]: which tokens aren't padding (None: the ids
    tell); who doesn't hide padding doesn't ask."""
    x, mask = _embed(parts, text, reading, text_valid)
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
    text_valid: Tensor | None = None,
) -> dict[str, Any]:
    """What the blocks of `indices` give: `text_intermediates`, tokens [batch, length, width]; where
    asked for `text_intermediates_suffix`, the class tokens of a tower that has them; and
    `text_features`, the pooled vectors. `text_valid`: see `encode`."""
    if output_fmt != "NLC":
        raise AssertionError("Output format must be NLC.")
    x, mask = _embed(parts, text, reading, text_valid)
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
    lock_groups(_groups(parts), unlocked_layers)


def text_layer_groups(parts: TextParts) -> NamedGroups:
    """The same groups by name, the input's first."""
    return named_groups(_groups(parts), parts.text_projection is not None)


def _groups(parts: TextParts) -> list[Group]:
    front = [parts.token_embedding, parts.positional_embedding, parts.cls_emb]
    blocks = parts.transformer.resblocks
    return groups_of(front, blocks, [parts.ln_final], [parts.text_projection])


def lock_text_tower(model: Any, unlocked_layers: int = 0) -> None:
    """The same of a model's text tower, or of a tower.

    >>> from diptych.compat.transformer import TextTransformer, lock_text_tower
    >>> tower = TextTransformer(8, vocab_size=30, width=16, heads=2, layers=1, output_dim=4)
    >>> lock_text_tower(tower, unlocked_layers=1)
    >>> [name for name, each in tower.named_parameters() if each.requires_grad]
    ['text_projection']
    """
    if isinstance(model, TextParts):
        lock(model, unlocked_layers)
    else:
        model.text.lock(unlocked_layers)


def _embed(
    parts: TextParts,
    text: Int[Tensor, "batch length"],
    reading: Reading,
    text_valid: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """The first block's input, and what is added to scores."""
    check_batch(text, "texts", "length")
    dtype, length = parts.transformer.get_cast_dtype(), text.shape[1]
    seen = parts.attn_mask is None and not (parts.transformer.length_first or reading.use_pad_mask)
    if length > parts.context_length or (seen and length != parts.context_length):
        most = "texts padded to" if seen else "at most"
        raise ConfigError(f"{length} tokens; this tower takes {most} {parts.context_length}")
    x = parts.token_embedding(text).to(dtype)
    if parts.cls_emb is not None:
        x = torch.cat([x, parts.cls_emb.to(dtype).expand(x.shape[0], 1, -1)], dim=1)
        length += 1
    x = x + parts.positional_embedding[:length].to(dtype)
    mask = None if parts.attn_mask is None else parts.attn_mask[:length, :length]
    if parts.cls_emb is not None or reading.use_pad_mask:
        real = text != reading.pad_id if text_valid is None else text_valid.bool()
        if parts.cls_emb is not None:
            beside = (0, 1) if reading.correct_cls_mask else (1, 0)
            real = nn.functional.pad(real, beside, value=True)
        mask = _hidden(real, mask, parts.transformer.resblocks[0].attn.num_heads)
    if parts.transformer.length_first:
        return x.transpose(0, 1), None  # OpenAI's blocks know their mask
    return x, mask


def _hidden(
    real: Bool[Tensor, "batch length"], mask: Tensor | None, heads: int
) -> Float[Tensor, "rows length length"]:
    """The mask with all but the `real` tokens hidden, for each row and head."""
    hidden = torch.zeros(real.shape, device=real.device).masked_fill(~real, -torch.inf)[:, None]
    added = hidden.expand(-1, real.shape[1], -1) if mask is None else hidden + mask
    return added.repeat_interleave(heads, 0)


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
    return x.transpose(0, 1) if parts.transformer.length_first else x


def text_global_pool(
    x: Float[Tensor, "batch length width"],
    text: Tensor | None = None,
    pool_type: str = "argmax",
    eos_token_id: int | None = None,
) -> Tensor:
    """The token that stands for a text: the `first`, the `last`, that of the highest id (`argmax`)
    or that of `eos_token_id` (`eos`); any other `pool_type`: all."""
    if pool_type in ("first", "last"):
        return x[:, 0] if pool_type == "first" else x[:, -1]
    if pool_type not in ("argmax", "eos"):
        return x
    assert text is not None
    end = text if pool_type == "argmax" else (text == eos_token_id).int()
    return x[torch.arange(x.shape[0], device=x.device), end.argmax(dim=-1)]


def causal_mask(length: int, device: torch.device | None = None) -> Float[Tensor, "length length"]:
    """What is added to scores, so that no token sees a later one."""
    return torch.full((length, length), -torch.inf, device=device).triu(1)
