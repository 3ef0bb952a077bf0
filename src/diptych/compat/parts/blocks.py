"""The blocks of open_clip's own transformers, by its names and with its signatures, so that code
which reaches into a model finds what it looks for, and what it runs or replaces there is what the
model computes.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.parts.attention import Attention
from diptych.compat.parts.layers import Layer, LayerNorm, scale_layer, weight_dtype


class ResidualAttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); with `ls_init_value` each branch times a
    `LayerScale`. With `is_cross_attention` it attends to `k_x` and `v_x`, which have a norm of
    their own; without it always to `q_x`.

    Tokens are [batch, length, width], without `batch_first` [length, batch, width].

    >>> import torch
    >>> from diptych.compat.transformer import ResidualAttentionBlock
    >>> ResidualAttentionBlock(16, n_head=2)(torch.zeros(1, 5, 16)).shape
    torch.Size([1, 5, 16])
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        is_cross_attention: bool = False,
        batch_first: bool = True,
    ):
        super().__init__()
        self.batch_first = batch_first
        self.ln_1 = norm_layer(d_model)
        self.attn: Any = nn.MultiheadAttention(d_model, n_head, batch_first=batch_first)
        self.ls_1 = scale_layer(d_model, ls_init_value)
        self.ln_1_kv = norm_layer(d_model) if is_cross_attention else None
        self.ln_2 = norm_layer(d_model)
        self.mlp = perceptron(d_model, mlp_ratio, act_layer)
        self.ls_2 = scale_layer(d_model, ls_init_value)

    def get_weight_dtype(self) -> torch.dtype:
        """Of the perceptron's first matrix."""
        return weight_dtype(self.mlp[0])

    def attention(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """The first branch, of normalised tokens; `attn_mask` [length, length] or [batch * heads,
        length, length] is added to the scores."""
        mask = None if attn_mask is None else attn_mask.to(device=q_x.device)
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q_x.dtype)
        keys = q_x if k_x is None else k_x
        values = q_x if v_x is None else v_x
        return self.attn(q_x, keys, values, need_weights=False, attn_mask=mask)[0]

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """As the class says. Where the mask tells that the length comes first, as scripts of
        open_clip before 2.25 have it, it comes first in the result, too."""
        if self.batch_first and k_x is None and _length_first(q_x, attn_mask):
            return self(q_x.transpose(0, 1), attn_mask=attn_mask).transpose(0, 1)
        norm = self.ln_1_kv
        keys = None if norm is None or k_x is None else norm(k_x)
        values = None if norm is None or v_x is None else norm(v_x)
        x = q_x + self.ls_1(self.attention(self.ln_1(q_x), keys, values, attn_mask))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class CustomResidualAttentionBlock(nn.Module):
    """The same with the options of `Attention`, and norms behind attention (`scale_attn`) and
    behind the perceptron's activation (`scale_fc`), as NormFormer has them (arXiv:2110.09456).

    >>> import torch
    >>> from diptych.compat.transformer import CustomResidualAttentionBlock
    >>> CustomResidualAttentionBlock(16, 2, scale_attn=True)(torch.zeros(1, 5, 16)).shape
    torch.Size([1, 5, 16])
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        qk_norm: bool = False,
        scale_cosine_attn: bool = False,
        scale_heads: bool = False,
        scale_attn_inner: bool = False,
        scale_attn: bool = False,
        scale_fc: bool = False,
        batch_first: bool = True,
    ):
        """Raises AssertionError, as open_clip does, without `batch_first`."""
        super().__init__()
        if not batch_first:
            raise AssertionError("batch_first must be True for CustomResidualAttentionBlock")
        self.ln_1 = norm_layer(d_model)
        self.attn = Attention(
            d_model,
            n_head,
            qk_norm=qk_norm,
            scaled_cosine=scale_cosine_attn,
            scale_heads=scale_heads,
            inner_norm=scale_attn_inner,
            norm_layer=norm_layer,
        )
        self.ln_attn = norm_layer(d_model) if scale_attn else nn.Identity()
        self.ls_1 = scale_layer(d_model, ls_init_value)
        self.ln_2 = norm_layer(d_model)
        inner = norm_layer if scale_fc else nn.Identity
        self.mlp = perceptron(d_model, mlp_ratio, act_layer, inner)
        self.ls_2 = scale_layer(d_model, ls_init_value)

    def get_weight_dtype(self) -> torch.dtype:
        """Of the perceptron's first matrix."""
        return weight_dtype(self.mlp[0])

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """[batch, length, width] -> the same; `attn_mask`: see `Attention.forward`."""
        x = x + self.ls_1(self.ln_attn(self.attn(self.ln_1(x), attn_mask=attn_mask)))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def perceptron(
    width: int, ratio: float, act_layer: Layer, inner_norm: Layer | None = None
) -> nn.Sequential:
    """A block's two matrices with the activation in between; behind that a norm of the hidden
    layer, where one is given."""
    hidden = int(width * ratio)
    layers: dict[str, nn.Module] = OrderedDict(c_fc=nn.Linear(width, hidden), gelu=act_layer())
    if inner_norm is not None:
        layers["ln"] = inner_norm(hidden)
    layers["c_proj"] = nn.Linear(hidden, width)
    return nn.Sequential(OrderedDict(layers))


def _length_first(x: Tensor, mask: Tensor | None) -> bool:
    if mask is None or mask.ndim != 2:
        return False
    return bool(x.shape[0] == len(mask) != x.shape[1])  # sizes are tensors in a trace
