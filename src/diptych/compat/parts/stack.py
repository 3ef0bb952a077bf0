"""The blocks of open_clip's own transformers one after the other.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.compat.parts.blocks import CustomResidualAttentionBlock, ResidualAttentionBlock
from diptych.compat.parts.layers import Layer, LayerNorm, LayerScale
from diptych.errors import ConfigError


class Transformer(nn.Module):
    """`resblocks`, one after the other: `block_type` "default" or "custom"; None: custom where one
    of the options behind it is set, which are `CustomResidualAttentionBlock`'s.

    Tokens are [batch, length, width]. Without `batch_first` the blocks take [length, batch, width],
    and the tokens are transposed before and behind them.

    >>> import torch
    >>> from diptych.compat.transformer import Transformer
    >>> Transformer(16, layers=2, heads=2)(torch.zeros(1, 5, 16)).shape
    torch.Size([1, 5, 16])
    """

    length_first: ClassVar[bool] = False
    """Whether tokens are [length, batch, width], as OpenAI's are."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        batch_first: bool = True,
        block_type: str | None = None,
        qk_norm: bool = False,
        scaled_cosine_attn: bool = False,
        scale_heads: bool = False,
        scale_attn_inner: bool = False,
        scale_attn: bool = False,
        scale_fc: bool = False,
    ):
        """Raises ConfigError for another `block_type`, and for options that its blocks don't
        have."""
        super().__init__()
        self.width, self.layers, self.batch_first = width, layers, batch_first
        self.grad_checkpointing = False
        """Whether each block's activations are computed again in the backward pass."""
        options = {
            "qk_norm": qk_norm,
            "scale_cosine_attn": scaled_cosine_attn,
            "scale_heads": scale_heads,
            "scale_attn_inner": scale_attn_inner,
            "scale_attn": scale_attn,
            "scale_fc": scale_fc,
        }
        said = [name for name, value in options.items() if value]
        chosen = block_type or ("custom" if said else "default")
        if chosen not in ("default", "custom"):
            raise ConfigError(f"block_type {chosen!r} is neither 'default' nor 'custom'")
        if chosen == "default" and said:
            raise ConfigError(f"block_type 'default' has no {' and no '.join(said)}; 'custom' has")
        kind: type[Any] = ResidualAttentionBlock
        if chosen == "custom":
            kind = CustomResidualAttentionBlock
        common = {"act_layer": act_layer, "norm_layer": norm_layer, "batch_first": batch_first}
        common |= options if chosen == "custom" else {}
        self.resblocks: Any = nn.ModuleList(
            kind(width, heads, mlp_ratio, ls_init_value, **common) for _ in range(layers)
        )

    def get_cast_dtype(self) -> torch.dtype:
        """Of the blocks' matrices."""
        return self.resblocks[0].get_weight_dtype()

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Set `grad_checkpointing`; `impl`: see `check_impl`."""
        check_impl(impl)
        self.grad_checkpointing = enable

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Tokens -> tokens; `attn_mask`: see the blocks."""
        x, given = self._turned(x), _mask(attn_mask)
        for block in self.resblocks:
            x = self.run(block, x, **given)
        return self._turned(x)

    def forward_intermediates(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """The tokens behind the last block that ran, and those behind the blocks of `indices` (a
        number: the last so many; None: all)."""
        chosen = taken_indices(len(self.resblocks), indices)
        blocks = self.resblocks[: max(chosen) + 1] if stop_early else self.resblocks
        found: list[Tensor] = []
        x, given = self._turned(x), _mask(attn_mask)
        for i, block in enumerate(blocks):
            x = self.run(block, x, **given)
            if i in chosen:
                found.append(self._turned(x))
        return self._turned(x), found

    def prune_intermediate_layers(self, indices: int | Collection[int] = 1) -> list[int]:
        """Drop the blocks behind the last of `indices`, which are given back as numbers."""
        chosen = taken_indices(len(self.resblocks), indices)
        self.resblocks = self.resblocks[: max(chosen) + 1]
        return chosen

    def run(self, block: nn.Module, x: Tensor, *given: Any, **options: Any) -> Tensor:
        """A block's output; with `grad_checkpointing` none of its activations is kept."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            again: Any = checkpoint(block, x, *given, **options, use_reentrant=False)
            return again
        return block(x, *given, **options)

    def _turned(self, x: Tensor) -> Tensor:
        """What is given <-> what the blocks take."""
        return x if self.batch_first or self.length_first else x.transpose(0, 1)


def _mask(attn_mask: Tensor | None) -> dict[str, Tensor]:
    """What blocks are given: nothing where there is none, for theirs may take none."""
    return {} if attn_mask is None else {"attn_mask": attn_mask}


class CustomTransformer(Transformer):
    """A `Transformer` of custom blocks, which `block_types` says for all or for each. Raises
    AssertionError, as open_clip does, for others."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        block_types: str | Sequence[str] = "CustomResidualAttentionBlock",
        *,
        batch_first: bool = True,
    ):
        """`batch_first` by its name: open_clip 3.3 has it before `block_types`, its main branch
        nowhere."""
        each = [block_types] * layers if isinstance(block_types, str) else list(block_types)
        if each != ["CustomResidualAttentionBlock"] * layers:
            raise AssertionError(
                f"block_types {block_types!r} are not CustomResidualAttentionBlock, once or "
                f"{layers} times"
            )
        given = (mlp_ratio, ls_init_value, act_layer, norm_layer, batch_first)
        super().__init__(width, layers, heads, *given, block_type="custom")


def init_blocks(blocks: Any, width: int, count: int | None = None) -> None:
    """Fill the matrices of a text's blocks by CLIP's table: see `nn.block.init_blocks`. Norms and
    biases are as torch builds them: 1 and 0. `count`: of how many blocks (None: of so many)."""
    residual = (2 * (count or len(blocks)) * width) ** -0.5
    deviations = {
        "attn.in_proj_weight": width**-0.5,
        "attn.out_proj.weight": residual,
        "mlp.c_fc.weight": (2 * width) ** -0.5,
        "mlp.c_proj.weight": residual,
    }
    for block in blocks:
        for name, parameter in block.named_parameters():
            if name in deviations:
                nn.init.normal_(parameter, std=deviations[name])


def init_constants(blocks: nn.Module) -> None:
    """Fill what isn't drawn, wherever it was built: gains of norms 1, biases 0, and what scales
    branches as it was asked for."""
    for module in blocks.modules():
        if isinstance(module, nn.LayerNorm | LayerScale):
            module.reset_parameters()
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.zeros_(module.in_proj_bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def check_impl(impl: str) -> None:
    """Raises ConfigError for a way of computing blocks again that open_clip doesn't have. Both give
    the same numbers, and both are torch's non-reentrant one here."""
    if impl not in ("inline", "composable"):
        raise ConfigError(f"impl {impl!r} is neither 'inline' nor 'composable'")


def taken_indices(count: int, indices: int | Collection[int] | None) -> list[int]:
    """Which of `count` blocks are meant: the last so many, or those of these numbers, from the end
    where they are negative; None: all. Raises AssertionError, as open_clip does, for others.

    >>> from diptych.compat.parts.stack import taken_indices
    >>> taken_indices(12, 2), taken_indices(12, [0, -1]), taken_indices(2, None)
    ([10, 11], [0, 11], [0, 1])
    """
    last = count if indices is None else indices
    if isinstance(last, int):
        if not 0 < last <= count:
            raise AssertionError(f"last-n ({last}) is out of range (1 to {count})")
        return list(range(count - last, count))
    for i in last:
        if not -count <= i < count:
            raise AssertionError(f"feature index {i} is out of range (0 to {count - 1})")
    return [i % count for i in last]
