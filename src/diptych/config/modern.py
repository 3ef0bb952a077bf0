"""What the blocks of recent language models have (LLaMA, Touvron et al. 2023, arXiv:2302.13971), in
transformers that read texts or write captions: rotary positions, norms of a root mean square, gated
perceptrons, and what can be added to them."""

from dataclasses import dataclass
from typing import Literal

from diptych.config.ranges import Above, Layers, Ranged, Share, Width
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModernSizes(Ranged):
    """A base of towers' and decoders' configurations.

    >>> from diptych.config.modern import ModernSizes
    >>> ModernSizes(width=64, heads=4).head_width
    16
    """

    vocab_size: Width = 50260
    width: Width = 512
    layers: Layers = 12
    heads: Width = 8
    mlp_width: Width = 1365
    mlp: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    """`swiglu`: gated (Shazeer 2020, arXiv:2002.05202). `relu2`: max(x, 0)^2 between two matrices
    (So et al. 2021, arXiv:2109.08668); `gelu`: GELU there."""
    norm: Literal["rms", "layer"] = "rms"
    """`rms`: x / sqrt(mean(x^2)) with a gain (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    norm_eps: Share = 1e-6
    rotary: bool = True
    """Whether places are rotations of queries and keys (RoPE, arXiv:2104.09864); without, tokens
    have none."""
    theta: Above = 10000.0
    """Of the rotations: the slowest one's period is about 2 pi times this, in tokens."""
    qk_norm: bool = False
    """A norm of each head's queries and keys (Dehghani et al. 2023, arXiv:2302.05442)."""
    gated: bool = True
    """Attention's output times sigmoid(W x), channel by channel (Qiu et al. 2025,
    arXiv:2505.06708)."""
    sandwich: bool = False
    """A norm behind each branch, too (Gemma 2, arXiv:2408.00118). Matrices then begin alike,
    whatever the depth."""
    layer_scale: Above | None = None
    """Initial value of a learned factor on each channel of a branch (arXiv:2103.17239); None: there
    is none."""
    value_residual: bool = False
    """From the second block on, values are mixed with the first block's (Zhou et al. 2024,
    arXiv:2410.17897)."""
    attention_bias: bool = False
    gate_bias: bool = False
    """With it gates begin mostly open."""
    mlp_bias: bool = False
    zero_residual: bool = False
    """Whether branches begin as zero."""

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"width ({self.width}) must be divisible by heads ({self.heads})")
        if self.rotary and self.head_width % 2:
            raise ConfigError(
                "RoPE head dim must be even, as channels turn in pairs: width / heads is "
                f"{self.head_width}"
            )

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.width // self.heads
