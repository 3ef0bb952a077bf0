"""Rows of a picture's patches and a caption's words, as open_clip's GenLIP reads them: who sees
whom, where each stands, and rows without gaps.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_genlip_model.py
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diptych.compat.losses.captions import fused_linear_cross_entropy
from diptych.families.genlip.rotary import axes_of, grid_places
from diptych.nn.padding import for_heads


def build_prefix_lm_mask(
    patch_valid: Bool[Tensor, "batch patches"], text_valid: Bool[Tensor, "batch length"]
) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """Which tokens (last) each one attends to, patches before words: a patch to all patches, a word
    to all patches and to words up to itself; to padding only padding itself.

    >>> import torch
    >>> from diptych.compat.naflex_genlip_model import build_prefix_lm_mask
    >>> seen = torch.ones(1, 1, dtype=torch.bool)
    >>> build_prefix_lm_mask(seen, seen)[0, 0].long().tolist()
    [[1, 0], [1, 1]]
    """
    valid = torch.cat([patch_valid, text_valid], dim=1).bool()
    places = torch.arange(valid.shape[1], device=valid.device)
    is_patch = (places < patch_valid.shape[1]).expand_as(valid)
    return _prefix_mask(is_patch, ~is_patch, valid)


def build_packed_prefix_lm_mask(
    prefix_pos: Bool[Tensor, "batch tokens"], text_pos: Bool[Tensor, "batch tokens"]
) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """The same of rows in which patches, words and padding stand elsewhere in each: which tokens
    are patches, and which are words."""
    return _prefix_mask(prefix_pos, text_pos, prefix_pos | text_pos)


def _prefix_mask(prefix: Tensor, text: Tensor, valid: Tensor) -> Tensor:
    asks_patches = (prefix | text)[:, :, None] & prefix[:, None]
    length = valid.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=valid.device).tril()
    sees = asks_patches | (text[:, :, None] & text[:, None] & earlier)
    # Attention over nothing would have no numbers: each token sees itself, padding, too.
    itself = torch.eye(length, dtype=torch.bool, device=valid.device)
    return (sees & valid[:, None] | itself)[:, None]


def build_image_attn_mask(
    patch_valid: Bool[Tensor, "batch patches"],
) -> Bool[Tensor, "batch 1 patches patches"]:
    """The same of pictures alone: patches see patches, padding sees itself."""
    valid = patch_valid.bool()
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    return (valid[:, None] & valid[:, :, None] | itself)[:, None]


def build_patch_attn_mask(
    patch_valid: Bool[Tensor, "batch patches"],
) -> Bool[Tensor, "batch 1 1 patches"]:
    """Which patches all tokens see, padding, too, whose answers nobody reads."""
    mask = for_heads(patch_valid.bool())
    assert mask is not None
    return mask


def build_image_position_ids(
    patch_coord: Int[Tensor, "batch patches 2"], patch_valid: Tensor | None = None
) -> Int[Tensor, "3 batch patches"]:
    """Time, row and column of patches; all are at time 0. `patch_valid` has no meaning."""
    return grid_places(patch_coord)


def build_mrope_position_ids(
    patch_coord: Int[Tensor, "batch patches 2"],
    patch_valid: Bool[Tensor, "batch patches"],
    text_valid: Bool[Tensor, "batch length"],
) -> Int[Tensor, "3 batch tokens"]:
    """The same of patches and words. A caption goes on behind the picture's longer side, a step on
    all three axes for each word (Qwen2-VL, arXiv:2409.12191, §2.1)."""
    patches = grid_places(patch_coord)
    ends = (patches * patch_valid.bool()).amax(dim=(0, 2)) + 1
    steps = torch.arange(text_valid.shape[1], device=ends.device)
    words = (ends[:, None] + steps).expand(3, -1, -1)
    return torch.cat([patches, words], dim=2)


def apply_interleaved_mrope(
    freqs: Float[Tensor, "3 batch tokens pairs"], mrope_section: tuple[int, int, int]
) -> Float[Tensor, "batch tokens pairs"]:
    """Of angles by time, by row and by column, the one that each pair of channels turns by."""
    _, rows, columns = mrope_section
    time = freqs.shape[-1] - rows - columns
    axes = axes_of((time, rows, columns), freqs.device)
    return freqs.take_along_dim(axes.expand_as(freqs[:1]), dim=0)[0]


class Packed(NamedTuple):
    """Rows without gaps: a picture's patches, its caption, padding."""

    tokens: Float[Tensor, "batch longest width"]
    places: Int[Tensor, "3 batch longest"]
    mask: Bool[Tensor, "batch 1 longest longest"]
    patches: Int[Tensor, " batch"]
    """How many each row has."""
    words: Int[Tensor, " batch"]


def pack_prefix_sequence(
    prefix_emb: Float[Tensor, "batch patches width"],
    prefix_valid: Bool[Tensor, "batch patches"],
    block_pos: Int[Tensor, "3 batch tokens"],
    text_emb: Float[Tensor, "batch length width"],
    text_valid: Bool[Tensor, "batch length"],
) -> Packed:
    """Rows of patches and words without the padding between them; `block_pos`: the places of all,
    as `build_mrope_position_ids` gives them."""
    valid = torch.cat([prefix_valid, text_valid], dim=1).bool()
    patches, words = prefix_valid.bool().sum(1), text_valid.bool().sum(1)
    longest = int((patches + words).max())
    # What counts comes first, and stays in its order.
    order = valid.long().argsort(dim=1, descending=True, stable=True)[:, :longest]
    at = torch.arange(longest, device=valid.device)
    is_patch = at < patches[:, None]
    is_word = ~is_patch & (at < (patches + words)[:, None])
    there = is_patch | is_word
    tokens = torch.cat([prefix_emb, text_emb], dim=1)
    tokens = tokens.take_along_dim(order[..., None], dim=1) * there[..., None]
    places = block_pos.take_along_dim(order.expand(3, -1, -1), dim=2) * there
    mask = build_packed_prefix_lm_mask(is_patch, is_word)
    return Packed(tokens, places, mask, patches, words)


def packed_caption_loss(
    model: Any,
    prefix_emb: Float[Tensor, "batch patches width"],
    prefix_valid: Bool[Tensor, "batch patches"],
    block_pos: Int[Tensor, "3 batch tokens"],
    text: Int[Tensor, "batch length"],
    text_valid: Bool[Tensor, "batch length"],
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """The loss of captions of rows without gaps, in which a caption's first word is told by the
    picture's last patch, and not by padding. `options`: `fused_linear_cross_entropy`'s."""
    row = pack_prefix_sequence(
        prefix_emb, prefix_valid, block_pos, model.embed_text(text), text_valid
    )
    hidden = model.read(row.tokens, row.mask, row.places)
    at = torch.arange(hidden.shape[1], device=hidden.device)
    first = (row.patches - 1)[:, None]
    tells = (at >= first) & (at < first + row.words[:, None])
    head = model.lm_head
    return fused_linear_cross_entropy(
        hidden[tells], head.weight, text[text_valid.bool()], head.bias, **options
    )
