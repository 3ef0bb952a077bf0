"""EVA's vision transformer in all its generations (Fang et al. 2022, arXiv:2211.07636; Sun et al.
2023 and 2024, arXiv:2303.15389 and arXiv:2402.04252)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.eva import EvaConfig
from diptych.models.tower import Tower, TowerOutput
from diptych.nn import GatedMlp, Mlp, PatchDropout, PatchEmbedding, StochasticDepth
from diptych.nn.block import block_flops
from diptych.nn.patch import take_patches
from diptych.nn.rotary import rotary_table, rotate, with_class_token

Rotary = Float[Tensor, "2 *rows tokens 1 1 head"]
"""Cosines and signed sines of each token, ready for queries and keys of [batch, tokens, 2, heads,
width]."""


class EvaAttention(nn.Module):
    """Self-attention without a bias of the keys, with rotary positions and a norm of the joined
    heads where asked."""

    def __init__(self, config: EvaConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.q_bias = nn.Parameter(torch.empty(width)) if config.qkv_bias else None
        self.v_bias = nn.Parameter(torch.empty(width)) if config.qkv_bias else None
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm = _norm(config, width) if config.attention_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        rotary: Rotary | None = None,
        first: bool = False,
    ) -> Tensor:
        """[batch, tokens, width] -> the same shape; with `first`, of the first token alone: [batch,
        width]."""
        qkv = F.linear(x, self.qkv.weight, self._bias()).unflatten(-1, (3, self.heads, -1))
        qk, v = qkv[:, :, :2], qkv[:, :, 2]
        if rotary is not None:
            qk = rotate(qk, rotary)
        q, k = qk.transpose(1, 3).unbind(2)
        joined = F.scaled_dot_product_attention(
            q[:, :, :1] if first else q, k, v.transpose(1, 2)
        ).transpose(1, 2)
        return self.out(self.norm(joined[:, 0].flatten(1) if first else joined.flatten(2)))

    def _bias(self) -> Tensor | None:
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])


class EvaBlock(nn.Module):
    """Attention and MLP, each x + gain * f(norm(x)), or, with the norm behind, x + gain *
    norm(f(x))."""

    def __init__(self, config: EvaConfig):
        super().__init__()
        width, hidden, scaled = config.width, config.mlp_width, config.layer_scale is not None
        self.before = config.norm_place == "pre"
        inner = _norm(config, hidden) if config.mlp_norm else nn.Identity()
        self.norm_1 = _norm(config, width)
        self.attention = EvaAttention(config)
        self.scale_1 = nn.Parameter(torch.empty(width)) if scaled else None
        self.norm_2 = _norm(config, width)
        self.mlp = (
            GatedMlp(width, hidden, inner)
            if config.mlp == "swiglu"
            else Mlp(width, hidden, "gelu", inner)
        )
        self.scale_2 = nn.Parameter(torch.empty(width)) if scaled else None
        self.depth = StochasticDepth()

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        rotary: Rotary | None = None,
        first: bool = False,
    ) -> Tensor:
        """[batch, tokens, width] -> the same shape; with `first`, the first token alone: [batch,
        width]."""
        attended = self.attention(self.norm_1(x) if self.before else x, rotary, first)
        x = (x[:, 0] if first else x) + self._finish(attended, self.norm_1, self.scale_1)
        return x + self._finish(
            self.mlp(self.norm_2(x) if self.before else x), self.norm_2, self.scale_2
        )

    def _finish(self, branch: Tensor, norm: nn.Module, scale: Tensor | None) -> Tensor:
        branch = branch if self.before else norm(branch)
        return self.depth(branch if scale is None else branch * scale)


class EvaTransformer(Tower[EvaConfig]):
    """Patches, a class token, positions, blocks of one of EVA's kinds; a vector is read from the
    class token or a mean.

    `embed_dim` None: an image tower alone, whose pooled vector isn't projected: [batch, width].

    >>> import torch
    >>> from diptych.families.eva import EvaConfig
    >>> from diptych.families.eva.model import EvaTransformer
    >>> config = EvaConfig(image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=24, rotary_grid=2)
    >>> tower = EvaTransformer(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, pooled = tower(torch.zeros(2, 3, 8, 8))
    >>> tokens.shape, pooled.shape, tower.projected(tokens)[:, 1:].shape
    (torch.Size([2, 5, 16]), torch.Size([2, 6]), torch.Size([2, 4, 6]))
    """

    class_tokens = 1
    always_projects = False

    def __init__(self, config: EvaConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.side = config.image_size // config.patch_size
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(1 + self.side**2, width))
        self.patch = PatchEmbedding(3, width, config.patch_size, bias=True)
        self.drop = PatchDropout()
        self.blocks = nn.ModuleList(
            EvaBlock(config) for _ in range(config.layers)
        )
        self.norm_post = _norm(config, width)
        self.projection = (
            nn.Identity()
            if embed_dim is None
            else nn.Linear(width, embed_dim, bias=config.projection_bias)
        )

    def init(self) -> None:
        """Fill every parameter, by EVA-CLIP's table (published code); l counts blocks from 1.

        | parameter                        | value                                                     |
        | -------------------------------- | --------------------------------------------------------- |
        | class_token, positions           | truncated N(0, 0.02^2)                                    |
        | patch                            | uniform within 1 / sqrt(fan in), as torch's convolutions  |
        | matrices                         | truncated N(0, 0.02^2)                                    |
        | attention.out, mlp.down (weight) | that / sqrt(2 l)                                          |
        | biases                           | 0                                                         |
        | norms                            | gain 1, bias 0                                            |
        | scale_1, scale_2                 | `layer_scale`                                             |
        | projection.weight                | truncated N(0, 0.02^2) / 1000                             |
        """
        for table in (self.class_token, self.positions):
            nn.init.trunc_normal_(table, std=0.02)
        self.patch.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
        for number, block in enumerate(self.blocks, 1):
            assert isinstance(block, EvaBlock)
            self._init_block(block, number)
        if isinstance(self.projection, nn.Linear):
            with torch.no_grad():
                self.projection.weight.mul_(0.001)

    @torch.no_grad()
    def _init_block(self, block: EvaBlock, number: int) -> None:
        for matrix in (block.attention.out.weight, block.mlp.down.weight):
            matrix.div_((2 * number) ** 0.5)
        for bias in (block.attention.q_bias, block.attention.v_bias):
            if bias is not None:
                bias.zero_()
        for scale in (block.scale_1, block.scale_2):
            if scale is not None and self.config.layer_scale is not None:
                scale.fill_(self.config.layer_scale)

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> tuple[Float[Tensor, "batch tokens width"], Rotary | None]:
        """The first block's input, the class token first, and what turns its queries and keys."""
        size = self.config.image_size
        if pixels.shape[2:] != (size, size):
            raise ConfigError(
                f"pictures of {tuple(pixels.shape[2:])} pixels; this tower takes {size} x {size}"
            )
        x = self.patch(pixels)
        x = x + self.positions[1:].to(x.dtype)
        kept, rotary = self.drop.choose(x), None
        if self.config.rotary_grid is not None:
            width = self.width // self.config.heads
            table = rotary_table(self.side, self.config.rotary_grid, width, x.device)
            rotary = with_class_token(table if kept is None else table[:, kept]).to(x.dtype)[
                ..., None, None, :
            ]
        first = (self.class_token + self.positions[0]).to(x.dtype).expand(len(x), 1, -1)
        return torch.cat([first, x if kept is None else take_patches(x, kept)], dim=1), rotary

    def forward(self, x: Float[Tensor, "batch 3 height wide"]) -> TowerOutput:
        """Pixels to tokens, the class token first, before the final norm, and the pooled vector."""
        x, rotary = self.embed(x)
        for block in self.blocks:
            x = block(x, rotary)
        return TowerOutput(x, self.projection(self.feature(x)))

    def pooled(self, x: Float[Tensor, "batch 3 height wide"]) -> Tensor:
        """`forward(x).pooled`; where it is read from the class token, the last block computes that
        one alone."""
        if self.config.pool != "cls":
            return self(x).pooled
        x, rotary = self.embed(x)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, rotary)
        return self.projected(last(x, rotary, first=True))

    def normed(self, tokens: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
        """Tokens of `forward` behind the final norm; the class token is the first, so patches are
        [:, 1:]."""
        return self.norm_post(tokens)

    def projected(self, tokens: Float[Tensor, "*any width"]) -> Float[Tensor, "*any embed_dim"]:
        """Tokens behind the final norm and the projection: patches in the space that pictures share
        with texts."""
        return self.projection(self.norm_post(tokens))

    def feature(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch width"]:
        """The class token or the mean, behind the final norm."""
        return self.norm_post(self._pool(tokens))

    def _pool(self, tokens: Tensor) -> Tensor:
        match self.config.pool:
            case "cls":
                return tokens[:, 0]
            case "mean":
                return tokens.mean(dim=1)
            case "patches":
                return tokens[:, 1:].mean(dim=1)

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is."""
        self.patch.requires_grad_(False)

    def flops(self) -> int:
        """Of `forward` for one picture; a multiply-add counts two."""
        c, tokens = self.config, len(self.positions)
        total = 2 * (tokens - 1) * 3 * c.patch_size**2 * c.width
        total += c.layers * block_flops(
            tokens, c.width, c.mlp_width, matrices=3 if c.mlp == "swiglu" else 2
        )
        return total + (
            2 * self.projection.weight.numel() if isinstance(self.projection, nn.Linear) else 0
        )


def _norm(config: EvaConfig, width: int) -> nn.Module:
    return (nn.LayerNorm if config.norm == "layer" else nn.RMSNorm)(width, eps=config.norm_eps)
