"""open_clip's classes of GenLIP (Fang et al. 2026, arXiv:2605.00809): one transformer reads a
picture's patches, and writes its caption behind them.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_genlip_model.py, main branch
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.compat.losses.captions import fused_linear_cross_entropy
from diptych.compat.model_traits import GENLIP_FIXED_TRAITS, GENLIP_TRAITS
from diptych.compat.parts.genlip import (
    GenLipBlock,
    GenLipPatchEmbed,
    GenLipPixelEmbed,
    GenLipRotaryEmbedding,
    GenLipTrunk,
    GenLipVisual,
    GenLipVisualAdapter,
    NaFlexGenLipVisualAdapter,
    build_embed,
)
from diptych.compat.parts.genlip_config import (
    NaFlexGenLipTrunkCfg,
    NaFlexGenLipVisionCfg,
    sizes_of,
)
from diptych.compat.parts.genlip_rows import (
    apply_interleaved_mrope,
    build_image_attn_mask,
    build_image_position_ids,
    build_mrope_position_ids,
    build_packed_prefix_lm_mask,
    build_patch_attn_mask,
    build_prefix_lm_mask,
    pack_prefix_sequence,
    packed_caption_loss,
)
from diptych.config import PreprocessConfig
from diptych.families.genlip.block import GenlipBlock, LayerScale, init_block, norm_of
from diptych.inputs.masking import IGNORE_INDEX
from diptych.models.clip import unit

__all__ = [
    "GenLip",
    "GenLipBlock",
    "GenLipModel",
    "GenLipPatchEmbed",
    "GenLipPixelEmbed",
    "GenLipRotaryEmbedding",
    "GenLipTrunk",
    "GenLipVisual",
    "GenLipVisualAdapter",
    "NaFlexGenLip",
    "NaFlexGenLipTextCfg",
    "NaFlexGenLipTrunkCfg",
    "NaFlexGenLipVisionCfg",
    "NaFlexGenLipVisualAdapter",
    "apply_interleaved_mrope",
    "build_image_attn_mask",
    "build_image_position_ids",
    "build_mrope_position_ids",
    "build_packed_prefix_lm_mask",
    "build_patch_attn_mask",
    "build_prefix_lm_mask",
    "pack_prefix_sequence",
    "packed_caption_loss",
]
_STD = 0.02
"""Of what is drawn before training outside of the blocks."""


@dataclass
class NaFlexGenLipTextCfg:
    """A `text_cfg`; the fields and defaults are open_clip's."""

    vocab_size: int = 100280
    context_length: int = 256
    pad_id: int = 100278
    bos_id: int | None = 100279
    eos_id: int | None = 100277
    tokenizer_type: str = "tiktoken"
    tiktoken_name: str = "cl100k_base"
    pre_norm: bool = False
    hf_tokenizer_name: str | None = None
    tokenizer_mode: str | None = None
    tokenizer_kwargs: dict[str, Any] | None = None


class GenLipModel(nn.Module):
    """What both classes are: words and patches for one trunk, `visual` of the same parts, and the
    vocabulary's matrix."""

    traits = GENLIP_TRAITS
    visual_kind: ClassVar[type[GenLipVisual]] = NaFlexGenLipVisualAdapter

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: NaFlexGenLipVisionCfg | dict[str, Any],
        text_cfg: NaFlexGenLipTextCfg | dict[str, Any],
        genlip_cfg: NaFlexGenLipTrunkCfg | dict[str, Any],
        cast_dtype: torch.dtype | None = None,
        output_dict: bool = True,
        **options: Any,
    ):
        """`cast_dtype`: of all weights. `output_dict` and `options` have no meaning."""
        super().__init__()
        self.vision_cfg = vision = _of(NaFlexGenLipVisionCfg, vision_cfg)
        self.text_cfg = text = _of(NaFlexGenLipTextCfg, text_cfg)
        self.trunk_cfg = trunk = _of(NaFlexGenLipTrunkCfg, genlip_cfg)
        self.embed_dim, self.output_dict = embed_dim, output_dict
        self.pad_id, self.context_length = text.pad_id, text.context_length
        self.pack_prefix = trunk.pack_prefix
        self.preprocess = PreprocessConfig()
        """How pictures are made."""
        width, narrow = trunk.width, trunk.text_embed_dim
        native = issubclass(type(self).visual_kind, NaFlexGenLipVisualAdapter)
        self.patch_embed = build_embed(vision, trunk, native)
        self.text_embed = nn.Embedding(text.vocab_size, narrow, padding_idx=text.pad_id)
        self.in_proj = _between(narrow, width)
        self.text_norm_pre = norm_of(sizes_of(trunk), width) if text.pre_norm else nn.Identity()
        self.out_proj = _between(width, narrow)
        self.lm_head = nn.Linear(narrow, text.vocab_size, bias=False)
        self.rotary = GenLipRotaryEmbedding(trunk)
        self.trunk = GenLipTrunk(trunk)
        parts = (self.patch_embed, self.trunk, self.rotary, vision, width, embed_dim)
        self.visual = type(self).visual_kind(*parts)
        self.init_weights()
        if cast_dtype is not None:
            self.to(cast_dtype)

    @torch.no_grad()
    def init_weights(self, std: float = _STD) -> None:
        """Fill every parameter as `families.genlip` does, words as matrices, padding with 0."""
        of_blocks = set[nn.Module]()
        for module in self.modules():
            if isinstance(module, GenlipBlock):
                init_block(module)
                of_blocks |= set(module.modules())
        for module in set(self.modules()) - of_blocks:
            if isinstance(module, nn.LayerNorm | nn.RMSNorm | LayerScale):
                module.reset_parameters()
                continue
            for name, parameter in module.named_parameters(recurse=False):
                nn.init.normal_(parameter, std=std if name == "weight" else 0.0)
        self.text_embed.weight[self.pad_id].zero_()

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        self.visual.set_grad_checkpointing(enable, impl)

    def fsdp_shard_modules(self) -> list[tuple[str, nn.Module]]:
        """Names and modules of what is sharded one at a time: the blocks."""
        return [(f"trunk.layers.{i}", block) for i, block in enumerate(self.trunk.layers)]

    def no_weight_decay(self) -> set[str]:
        """Names of tables without weight decay: there are none."""
        return set()

    def encode_image(self, image: Any, normalize: bool = False) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of pictures, as `visual` takes them; of unit length where it is asked for."""
        vectors = self.visual(image)
        return unit(vectors) if normalize else vectors

    def embed_text(self, text: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """Words as the first block reads them."""
        return self.text_norm_pre(self.in_proj(self.text_embed(text)))

    def read(self, tokens: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        """What the trunk makes of tokens at these places, as wide as a word."""
        return self.out_proj(self.trunk(tokens, mask, *self.rotary(tokens, places)))

    def forward(
        self,
        image: Tensor | Mapping[str, Any],
        text: Int[Tensor, "batch length"],
        text_valid: Bool[Tensor, "batch length"] | None = None,
        compute_loss: bool = False,
        caption_z_loss: bool = False,
        caption_loss_compute_dtype: Any = torch.float32,
        caption_loss_chunk_size: int = 4096,
    ) -> dict[str, Any]:
        """`logits` [batch, patches and words, vocabulary] of the token behind each place, and
        `image_seq_len`, how many of the places are patches. `text_valid`: which words aren't
        padding (None: the ids tell).

        With `compute_loss` in their place `caption_loss_ce`, also as `loss`, the cross entropy of
        the captions' words in the memory of a few rows of logits, and `caption_loss_z` where it is
        asked for; of rows without gaps with `pack_prefix`.
        """
        valid = text != self.pad_id if text_valid is None else text_valid.bool()
        patches, coordinates, seen = self.visual.patches(image)
        places = build_mrope_position_ids(coordinates, seen, valid)
        count = patches.shape[1]
        options: dict[str, Any] = {
            "chunk_size": caption_loss_chunk_size,
            "z_loss": caption_z_loss,
            "compute_dtype": caption_loss_compute_dtype,
        }
        if compute_loss and self.pack_prefix:
            loss = packed_caption_loss(self, patches, seen, places, text, valid, **options)
            return _losses(*loss)
        tokens = torch.cat([patches, self.embed_text(text)], dim=1)
        hidden = self.read(tokens, build_prefix_lm_mask(seen, valid), places)
        if not compute_loss:
            return {"logits": self.lm_head(hidden), "image_seq_len": count}
        # A place tells the token behind it: the last patch the caption's first word.
        tells, labels = hidden[:, count - 1 : -1], text.masked_fill(~valid, IGNORE_INDEX)
        loss = fused_linear_cross_entropy(
            tells.flatten(0, 1), self.lm_head.weight, labels.flatten(), **options
        )
        return _losses(*loss)


class NaFlexGenLip(GenLipModel):
    """GenLIP over pictures of their own aspect: `image` is what `compat.faces.naflex` says.

    >>> import torch
    >>> from diptych.compat.naflex_genlip_model import NaFlexGenLip
    >>> trunk = {"width": 16, "depth": 1, "num_heads": 2, "intermediate_size": 24}
    >>> trunk |= {"text_embed_dim": 8, "mrope_section": (0, 2, 2)}
    >>> text = {"vocab_size": 9, "context_length": 5, "pad_id": 8}
    >>> model = NaFlexGenLip(16, {"image_size": 32}, text, trunk)
    >>> found = model(torch.rand(2, 3, 32, 32), torch.ones(2, 5).long())
    >>> found["logits"].shape, found["image_seq_len"]
    (torch.Size([2, 9, 9]), 4)
    """


class GenLip(GenLipModel):
    """GenLIP over squares of pixels, as the authors' first stage of training."""

    traits = GENLIP_FIXED_TRAITS
    visual_kind = GenLipVisualAdapter


def _of(kind: type[Any], cfg: Any) -> Any:
    return kind(**cfg) if isinstance(cfg, dict) else cfg


def _between(before: int, behind: int) -> nn.Module:
    return nn.Identity() if before == behind else nn.Linear(before, behind)


def _losses(ce: Tensor, z: Tensor | None) -> dict[str, Tensor]:
    found = {"loss": ce, "caption_loss_ce": ce}
    return found if z is None else found | {"caption_loss_z": z}
