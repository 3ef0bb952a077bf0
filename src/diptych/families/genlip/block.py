"""GenLIP's block: the image tower's, and of what writes captions (`compat.naflex_genlip_model`).

Parts are called as in the authors' code and in open_clip's, which agree: one set of modules serves
towers here and models there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.families.genlip.config import GenlipSizes
from diptych.families.genlip.rotary import Turns, turned
from diptych.nn import StochasticDepth

Mask = Bool[Tensor, "batch 1 #tokens tokens"]
"""Which tokens (last) each one attends to."""
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
}
_BIAS = 1e-6
"""Standard deviation of the perceptrons' biases before training."""


@dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """What a block is made of: see `GenlipSizes`."""

    width: int
    heads: int
    mlp_width: int
    activation: Literal["silu", "gelu", "relu"] = "silu"
    gated_mlp: bool = True
    gated_attention: bool = True
    qk_norm: bool = False
    layer_scale: float | None = 0.1
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
    attention_bias: bool = True
    mlp_bias: bool = True

    @classmethod
    def of(cls, config: GenlipSizes) -> "BlockSizes":
        """Of a tower's configuration.

        >>> from diptych.families.genlip import GenlipImageConfig
        >>> from diptych.families.genlip.block import BlockSizes
        >>> BlockSizes.of(GenlipImageConfig()).mlp_width
        3072
        """
        return cls(
            width=config.width,
            heads=config.heads,
            mlp_width=config.mlp_width,
            activation=config.activation,
            gated_mlp=config.gated_mlp,
            gated_attention=config.gated_attention,
            qk_norm=config.qk_norm,
            layer_scale=config.layer_scale,
            norm=config.norm,
            norm_eps=config.norm_eps,
            attention_bias=config.attention_bias,
            mlp_bias=config.mlp_bias,
        )


def norm_of(sizes: BlockSizes | GenlipSizes, channels: int) -> nn.Module:
    """A norm of so many channels, of the kind that all of a tower's are."""
    kind = nn.RMSNorm if sizes.norm == "rms" else nn.LayerNorm
    return kind(channels, sizes.norm_eps)


class GatedAttention(nn.Module):
    """Attention whose output is gated by the token that asks (Qiu et al. 2025, arXiv:2505.06708):
    no token has to be attended to for want of a better one. `q_proj` gives query and gate."""

    def __init__(self, sizes: BlockSizes):
        super().__init__()
        width, bias = sizes.width, sizes.attention_bias
        self.heads, self.gated = sizes.heads, sizes.gated_attention
        head = width // sizes.heads
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.q_proj = nn.Linear(width, 2 * width if self.gated else width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)
        self.q_norm = norm_of(sizes, head) if sizes.qk_norm else nn.Identity()
        self.k_norm = norm_of(sizes, head) if sizes.qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch tokens width"], mask: Mask | None, by: Turns
    ) -> Float[Tensor, "batch tokens width"]:
        """Of tokens that see those of the `mask` (None: all)."""
        asked, gate = self.q_proj(x).chunk(2, dim=-1) if self.gated else (self.q_proj(x), None)
        queries, keys, values = map(self._heads, (asked, self.k_proj(x), self.v_proj(x)))
        queries, keys = turned(self.q_norm(queries), by), turned(self.k_norm(keys), by)
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        read = read.transpose(1, 2).flatten(2)
        return self.out_proj(read if gate is None else read * torch.sigmoid(gate))

    def _heads(self, x: Tensor) -> Float[Tensor, "batch heads tokens head"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Perceptron(nn.Module):
    """fc2(f(gate_fc(x)) * fc1(x)), with SiLU as f SwiGLU (Shazeer 2020, arXiv:2002.05202); without
    a gate fc2(f(fc1(x)))."""

    def __init__(self, sizes: BlockSizes):
        super().__init__()
        width, hidden, bias = sizes.width, sizes.mlp_width, sizes.mlp_bias
        self.activation = _ACTIVATIONS[sizes.activation]
        self.fc1 = nn.Linear(width, hidden, bias=bias)
        self.gate_fc = nn.Linear(width, hidden, bias=bias) if sizes.gated_mlp else None
        self.fc2 = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "*tokens width"]) -> Float[Tensor, "*tokens width"]:
        """Of each token."""
        hidden = self.fc1(x)
        if self.gate_fc is None:
            return self.fc2(self.activation(hidden))
        return self.fc2(self.activation(self.gate_fc(x)) * hidden)


class LayerScale(nn.Module):
    """A learned factor on each channel of a branch (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, value: float):
        super().__init__()
        self.value = value
        self.lambda1 = nn.Parameter(torch.empty(width))

    def reset_parameters(self) -> None:
        """Each factor begins as `value`."""
        nn.init.constant_(self.lambda1, self.value)

    def forward(self, x: Float[Tensor, "*tokens width"]) -> Float[Tensor, "*tokens width"]:
        """Of each token."""
        return x * self.lambda1


class GenlipBlock(nn.Module):
    """x + scale attention(norm(x)), then x + scale mlp(norm(x)).

    >>> import torch
    >>> from diptych.families.genlip.block import BlockSizes, GenlipBlock
    >>> from diptych.families.genlip.rotary import turns
    >>> block = GenlipBlock(BlockSizes(width=8, heads=2, mlp_width=12))
    >>> by = turns(torch.zeros(3, 1, 5, dtype=torch.long), (0, 1, 1), 10000.0)
    >>> block(torch.zeros(1, 5, 8), None, *by).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, sizes: BlockSizes):
        super().__init__()
        self.layer_norm1 = norm_of(sizes, sizes.width)
        self.self_attn = GatedAttention(sizes)
        self.layer_norm2 = norm_of(sizes, sizes.width)
        self.mlp = Perceptron(sizes)
        self.layer_scale1, self.layer_scale2 = (self._scale(sizes) for _ in range(2))
        self.drop_path = StochasticDepth()

    @staticmethod
    def _scale(sizes: BlockSizes) -> nn.Module:
        value = sizes.layer_scale
        return nn.Identity() if value is None else LayerScale(sizes.width, value)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], mask: Mask | None, cos: Tensor, sin: Tensor
    ) -> Float[Tensor, "batch tokens width"]:
        """The tokens behind both branches. `mask`: which tokens each one sees (None: all); `cos`,
        `sin`: see `rotary.turns`."""
        attended = self.self_attn(self.layer_norm1(x), mask, (cos, sin))
        x = x + self.drop_path(self.layer_scale1(attended))
        return x + self.drop_path(self.layer_scale2(self.mlp(self.layer_norm2(x))))


def init_block(block: GenlipBlock) -> None:
    """Fill every parameter, as the authors' code does.

    | parameter                         | value                                    |
    | --------------------------------- | ---------------------------------------- |
    | norm gain, bias                   | 1, 0                                     |
    | matrices                          | uniform, variance 2 / (fan in + fan out) |
    | biases of attention, perceptron   | 0, N(0, 1e-12)                           |
    | layer_scale1, layer_scale2        | `GenlipSizes.layer_scale`                |
    """
    for module in block.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm | LayerScale):
            module.reset_parameters()
    for part, spread in ((block.self_attn, 0.0), (block.mlp, _BIAS)):
        for name, parameter in part.named_parameters():
            if "norm" in name:
                continue
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.normal_(parameter, std=spread)
