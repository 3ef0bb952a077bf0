"""open_clip's "modern" text tower and its decoder for CoCa, part by part by its names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py of its main branch
"""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.parts.attention import context_attn_mask_from_valid
from diptych.compat.parts.locks import NamedGroups, check_norms_frozen, lock_groups
from diptych.compat.parts.modern_blocks import ModernTextDecoderBlock
from diptych.compat.parts.modern_layers import (
    ModernTextPool,
    RotaryEmbedding1D,
    norm_layer_for,
)
from diptych.compat.parts.spelling import Spelled
from diptych.compat.parts.stack import check_impl, taken_indices
from diptych.config.modern import ModernSizes
from diptych.families.modern import ModernDecoderConfig, ModernTextConfig
from diptych.families.modern.decoder import ModernDecoder
from diptych.families.modern.layouts import read_decoder, read_text
from diptych.families.modern.text import ModernTextTower
from diptych.models.recompute import recompute
from diptych.nn.modern_attention import BlockOptions
from diptych.nn.modern_block import block_states, run_blocks
from diptych.nn.padding import real_tokens


def said_of(cfg: Any) -> dict[str, Any]:
    """What a `CLIPTextCfg`, or another object of such fields, says, as of a modern text."""
    return dict(vars(cfg)) | {"text_arch": "modern"}


def rope_of(sizes: ModernSizes) -> RotaryEmbedding1D | None:
    """Of a configuration; None: it has none."""
    return RotaryEmbedding1D(sizes.head_width, sizes.theta) if sizes.rotary else None


class ModernTextTransformer(Spelled, ModernTextTower):
    """Ids to vectors. `cfg` is a `CLIPTextCfg` whose `text_arch` is "modern"; what its fields mean
    stands at `ModernTextConfig` and `ModernSizes`. Raises ConfigError, a ValueError, for one that
    has no meaning here.

    >>> import torch
    >>> from diptych.compat import CLIPTextCfg
    >>> from diptych.compat.transformer import ModernTextTransformer
    >>> cfg = CLIPTextCfg(text_arch="modern", vocab_size=30, width=16, heads=2, layers=1, eos_id=2)
    >>> ModernTextTransformer(cfg, output_dim=4)(torch.tensor([[28, 5, 2]])).shape
    torch.Size([1, 4])
    """

    spelling: ClassVar = {
        "tokens": "token_embedding",
        "registers": "reg_tokens",
        "norm_post": "ln_final",
        "projection": "text_projection",
    }
    block_kind = ModernTextDecoderBlock.of
    pool_kind = ModernTextPool.of

    def __init__(self, cfg: Any, output_dim: int | None):
        config = read_text(said_of(cfg))
        assert config is not None
        self._make(config, cfg, output_dim)
        self.init_parameters()

    @classmethod
    def of(
        cls, config: ModernTextConfig, options: dict[str, Any], output_dim: int
    ) -> "ModernTextTransformer":
        """The tower of this configuration, without values; `options`: the `text_cfg` of the
        same."""
        made = cls.__new__(cls)
        made._make(config, SimpleNamespace(**options), output_dim)
        return made

    def _make(self, config: ModernTextConfig, cfg: Any, output_dim: int | None) -> None:
        ModernTextTower.__init__(self, config, output_dim or None)
        self.cfg, self.output_dim = cfg, output_dim
        self.rope = rope_of(config)
        self.context_length = self.num_pos = config.context_length
        self.vocab_size, self.variable_text = config.vocab_size, config.variable_text
        self.pad_id, self.bos_id, self.eos_id = config.pad_id, config.start_id, config.end_id
        self.num_reg = config.registers
        self.output_tokens = bool(vars(cfg).get("output_tokens"))
        """Whether a call gives (pooled, tokens)."""
        self.grad_checkpointing = False
        """Whether each block's activations are computed again in the backward pass."""

    @classmethod
    def options_of(cls, config: ModernTextConfig) -> BlockOptions:
        """What its blocks are made of."""
        return BlockOptions.of(config, norm_layer_for(config))

    @property
    def layers(self) -> int:
        """How many blocks."""
        return len(self.blocks)

    def init_parameters(self) -> None:
        """Fill every parameter: see `ModernTextTower.init`."""
        self.init()

    def get_cast_dtype(self) -> torch.dtype:
        """Of the blocks' matrices."""
        for block in self.blocks:
            assert isinstance(block, ModernTextDecoderBlock)
            return block.get_weight_dtype()
        return self.tokens.weight.dtype

    def words(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """Their vectors, in the blocks' precision."""
        return self.tokens(ids).to(self.get_cast_dtype())

    def turns(self, x: Float[Tensor, "batch tokens width"]) -> Tensor | None:
        """As `rope` has them."""
        return None if self.rope is None else self.rope(x.shape[1], x.device, x.dtype)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        text: Int[Tensor, "batch length"],
        attention_mask: Tensor | None = None,
        text_valid: Tensor | None = None,
    ) -> Any:
        """Pooled vectors, or with `output_tokens` (pooled, tokens). `attention_mask`, [batch,
        length], or by its other name `text_valid`: which ids aren't padding (None: they tell)."""
        real = self._real(text, attention_mask, text_valid)
        x = self.norm_post(self.through(self.embed(text), real))
        pooled, tokens = self._read(x, text, real)
        return (pooled, tokens) if self.output_tokens else pooled

    def _real(self, text: Tensor, *masks: Tensor | None) -> Tensor:
        given = next((mask for mask in masks if mask is not None), None)
        return real_tokens(text, self.pad_id, given)

    def _read(self, x: Tensor, text: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled vectors, and the text's tokens."""
        tokens = x[:, self.num_reg :]
        return self.projection(self.pool(tokens, text, real, self.eos_id)), tokens

    def forward_intermediates(
        self,
        text: Int[Tensor, "batch length"],
        attention_mask: Tensor | None = None,
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NLC",
        output_extra_tokens: bool = False,
        text_valid: Tensor | None = None,
    ) -> dict[str, Any]:
        """What the blocks of `indices` give: `text_intermediates`, tokens [batch, length, width];
        where asked for `text_intermediates_extra`, the registers; and `text_features`, the pooled
        vectors, of the last block that ran."""
        if output_fmt != "NLC":
            raise AssertionError("Output format must be NLC.")
        real = self._real(text, attention_mask, text_valid)
        chosen = taken_indices(len(self.blocks), indices)
        blocks = self.blocks[: max(chosen) + 1] if stop_early else self.blocks
        first = self.embed(text)
        _, *states = block_states(blocks, first, *self.seen(first, real))
        found = [states[i] for i in chosen]
        if normalize_intermediates:
            found = [self.norm_post(each) for each in found]
        output: dict[str, Any] = {"text_intermediates": [each[:, self.num_reg :] for each in found]}
        if output_extra_tokens:
            kept = found if self.num_reg else []
            output["text_intermediates_extra"] = [each[:, : self.num_reg] for each in kept]
        if not intermediates_only:
            output["text_features"] = self._read(self.norm_post(states[-1]), text, real)[0]
        return output

    def layer_groups(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pooler_in_head: bool = True
    ) -> NamedGroups:
        """Parts by open_clip's names, the input's first; `pooler_in_head`: whether the pool goes
        with the projection, or with the last block."""
        front: list[Any] = [self.tokens]
        front += [] if self.registers is None else [self.registers]
        front += [] if isinstance(self.norm_pre, nn.Identity) else [self.norm_pre]
        groups = [("embeddings", front)]
        groups += [(f"layer.{i}", [block]) for i, block in enumerate(self.blocks)]
        head: list[Any] = [] if isinstance(self.projection, nn.Identity) else [self.projection]
        groups[-1][1].extend([self.norm_post] if pooler_in_head else [self.norm_post, self.pool])
        head = [self.pool, *head] if pooler_in_head else head
        return [*groups, ("proj", head)] if head else groups

    def lock(
        self,
        unlocked_layers: int = 0,
        freeze_layer_norm: bool = True,
        pooler_in_head: bool = True,
    ) -> None:
        """Freeze all but the last groups of layers. Raises AssertionError where norms are to be
        trained."""
        check_norms_frozen(freeze_layer_norm)
        groups = [parts for _, parts in self.layer_groups(pooler_in_head)]
        lock_groups(groups, unlocked_layers)

    def no_weight_decay(self) -> set[str]:
        """Learned tokens without weight decay, beside what has one dimension."""
        found = {"reg_tokens"} if self.registers is not None else set[str]()
        return found | ({"pool.query"} if self.pool.query is not None else set())

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        check_impl(impl)
        self.grad_checkpointing = enable
        recompute(self.blocks, enable)


class ModernMultimodalTransformer(Spelled, ModernDecoder):
    """CoCa's decoder: a text's tokens that read a picture's. `cfg` is a `MultimodalCfg` whose
    `text_arch` is "modern": see `ModernDecoderConfig`. Raises ConfigError, a ValueError, for one
    that has no meaning here.

    >>> import torch
    >>> from diptych.compat.coca_model import MultimodalCfg
    >>> from diptych.compat.transformer import ModernMultimodalTransformer
    >>> cfg = MultimodalCfg(text_arch="modern", vocab_size=30, width=16, heads=2, layers=1)
    >>> made = ModernMultimodalTransformer(cfg)
    >>> made(torch.zeros(1, 5, 16), torch.zeros(1, 3, 16)).shape
    torch.Size([1, 3, 30])
    """

    spelling: ClassVar = {"norm_post": "ln_final", "projection": "lm_head"}
    block_kind = ModernTextDecoderBlock.of

    def __init__(self, cfg: Any, vocab_size: int | None = None):
        said = said_of(cfg)
        config = read_decoder(said if vocab_size is None else said | {"vocab_size": vocab_size})
        assert config is not None
        self._make(config, cfg)
        self.init_parameters()

    @classmethod
    def of(
        cls, config: ModernDecoderConfig, options: dict[str, Any]
    ) -> "ModernMultimodalTransformer":
        """The decoder of this configuration, without values; `options`: the `multimodal_cfg` of the
        same."""
        made = cls.__new__(cls)
        made._make(config, SimpleNamespace(**options))
        return made

    def _make(self, config: ModernDecoderConfig, cfg: Any) -> None:
        ModernDecoder.__init__(self, config)
        self.cfg = cfg
        self.rope = rope_of(config)
        self.context_length, self.vocab_size = config.context_length, config.vocab_size
        self.layers, self.cross_step = config.layers, config.step
        self.pad_id, self.bos_id, self.eos_id = config.pad_id, config.start_id, config.end_id
        self.grad_checkpointing = False
        """Whether each block's activations are computed again in the backward pass."""

    @classmethod
    def options_of(cls, config: ModernDecoderConfig) -> BlockOptions:
        """What its blocks are made of."""
        return BlockOptions.of(config, norm_layer_for(config))

    def init_parameters(self) -> None:
        """Fill every parameter: see `ModernDecoder.init`."""
        self.init()

    def turns(self, texts: Float[Tensor, "texts length width"]) -> Tensor | None:
        """As `rope` has them."""
        return None if self.rope is None else self.rope(texts.shape[1], texts.device, texts.dtype)

    @property
    def lm_head_params(self) -> tuple[Tensor, Tensor | None]:
        """The matrix that makes logits, [vocabulary, width], and no bias."""
        return self.projection.weight, None

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        context: Float[Tensor, "batch tokens width"],
        text_embs: Float[Tensor, "batch length width"],
        context_valid: Tensor | None = None,
        return_hidden: bool = False,
    ) -> Float[Tensor, "batch length channels"]:
        """Logits of the next tokens, or with `return_hidden` what `lm_head` makes them of.
        `context_valid`, [batch, tokens]: which of the picture's tokens aren't padding (None:
        all)."""
        seen = context_attn_mask_from_valid(context_valid)
        options = {"causal": True, "pictures": context, "seen": seen}
        x = run_blocks(self.blocks, text_embs, self.turns(text_embs), **options)
        x = self.norm_post(x)
        return x if return_hidden else self.projection(x)

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        check_impl(impl)
        self.grad_checkpointing = enable
        recompute(self.blocks, enable)
