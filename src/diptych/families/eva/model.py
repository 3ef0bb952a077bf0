"""EVA's vision transformer in all its generations (Fang et al. 2022, arXiv:2211.07636; Sun et al.
2023 and 2024, arXiv:2303.15389 and arXiv:2402.04252)."""

from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import UnknownNameError
from diptych.families.eva import EvaConfig
from diptych.families.eva.initial import TABLES
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import GatedMlp, Mlp, PatchDropout, PatchEmbedding, StochasticDepth, is_bare
from diptych.nn.attention import Attending, attention_weights
from diptych.nn.block import block_flops
from diptych.nn.patch import Masked, hide, take_patches
from diptych.nn.rotary import Rotary, rotary_table, rotate, with_class_token


class EvaAttention(Attending):
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
        values: bool = False,
    ) -> Tensor:
        """[batch, tokens, width] -> the same shape; with `first`, of the first token alone: [batch,
        width]; with `values`, each token's own value alone, as if it attended to itself."""
        if values:
            return self.out(self.norm(self._project(x)[..., 2 * x.shape[-1] :]))
        q, k, v = self._heads(x, rotary)
        joined = F.scaled_dot_product_attention(
            q[:, :, :1] if first else q, k, v.transpose(1, 2)
        ).transpose(1, 2)
        # The norm, where there is one, is sub-LN: it stands before the branch's last matrix and
        # keeps its input's size in deep towers (Wang et al. 2022, arXiv:2210.06423).
        return self.out(self.norm(joined[:, 0].flatten(1) if first else joined.flatten(2)))

    def weights(
        self,
        x: Float[Tensor, "batch tokens width"],
        rotary: Rotary | None = None,
        first: bool = False,
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """Each token's shares of the tokens."""
        assert not first
        q, k, _ = self._heads(x, rotary)
        return attention_weights(q, k)

    def _heads(
        self, x: Float[Tensor, "batch tokens width"], rotary: Rotary | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys [batch, heads, tokens, channels], values [batch, tokens, heads,
        channels]."""
        qkv = self._project(x).unflatten(-1, (3, self.heads, -1))
        # Queries and keys lie side by side, so one multiplication turns both. Values aren't turned:
        # a position is to decide what a token sees, not what it then reads.
        qk, v = qkv[:, :, :2], qkv[:, :, 2]
        if rotary is not None:
            qk = rotate(qk, rotary)
        q, k = qk.transpose(1, 3).unbind(2)
        return q, k, v

    def _project(self, x: Float[Tensor, "batch tokens width"]) -> Tensor:
        """Queries, keys and values: [batch, tokens, 3 * width]."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv(x)
        # A bias of the keys adds the same to all scores of a query, and softmax takes it out again.
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        if is_bare(self.qkv):  # the bias joins the product: no second pass over its output
            return F.linear(x, self.qkv.weight, bias)
        qkv = self.qkv(x)
        return qkv + bias.to(qkv.dtype)


class EvaBlock(nn.Module):
    """Attention and MLP, each x + gain * f(norm(x)), or, with the norm behind, x + gain *
    norm(f(x)).

    The second, post-norm within the branch, bounds what a block adds however large its weights
    grow: the largest towers are trained so (Liu et al. 2022, arXiv:2111.09883, §3.2). The gains,
    where a tower has them, start small, so that a deep tower starts near the identity (Touvron et
    al. 2021, arXiv:2103.17239).
    """

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
        values: bool = False,
    ) -> Tensor:
        """[batch, tokens, width] -> the same shape; with `first`, the first token alone: [batch,
        width]; with `values`, what attention would add to each token if it attended to itself
        alone."""
        if values:
            own = self.attention(self.norm_1(x) if self.before else x, values=True)
            return self._finish(own, self.norm_1, self.scale_1)
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
    >>> config = EvaConfig(
    ...     image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=24, rotary_grid=2
    ... )
    >>> tower = EvaTransformer(config, embed_dim=6)
    >>> tower.init()
    >>> tokens, feature, pooled = tower(torch.zeros(2, 3, 8, 8), tokens="projected")
    >>> tokens.shape, feature.shape, pooled.shape
    (torch.Size([2, 5, 6]), torch.Size([2, 16]), torch.Size([2, 6]))
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
        self.patch = PatchEmbedding(3, width, config.patch_size, config.patch_size)
        self.drop = PatchDropout()
        self.blocks = nn.ModuleList(EvaBlock(config) for _ in range(config.layers))
        self.norm_post = _norm(config, width)
        self.projection = (
            nn.Identity()
            if embed_dim is None
            else nn.Linear(width, embed_dim, bias=config.projection_bias)
        )

    def init(self) -> None:
        """Fill every parameter, by EVA-CLIP's table (published code); l counts blocks from 1.

        | parameter               | value                                                    |
        | ----------------------- | -------------------------------------------------------- |
        | class_token, positions  | truncated N(0, 0.02^2)                                   |
        | patch                   | uniform within 1 / sqrt(fan in), as torch's convolutions |
        | matrices                | truncated N(0, 0.02^2)                                   |
        | attention.out, mlp.down | (weights) that / sqrt(2 l): residual branches            |
        | biases                  | 0                                                        |
        | norms                   | gain 1, bias 0                                           |
        | scale_1, scale_2        | `layer_scale`                                            |
        | projection.weight       | truncated N(0, 0.02^2) / 1000                            |
        """
        for table in (self.class_token, self.positions):
            nn.init.trunc_normal_(table, std=0.02)
        self.patch.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                # A qkv may have none, which torch's types don't say.
                if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
        for number, block in enumerate(self.blocks, 1):
            assert isinstance(block, EvaBlock)
            self._init_block(block, number)
        if isinstance(self.projection, nn.Linear):
            with torch.no_grad():
                self.projection.weight.mul_(0.001)

    def init_as(self, table: str) -> None:
        """Fill every parameter, as for masked image modelling: by the table `eva01` or `eva02`
        (`eva.initial`)."""
        if table not in TABLES:
            raise UnknownNameError("initial table of an EVA tower", table, TABLES)
        self.init()
        TABLES[table](self, self.config)

    @torch.no_grad()
    def _init_block(self, block: EvaBlock, number: int) -> None:
        # The stream that block l adds to has grown by 2 (l - 1) branches: each adds less than the
        # last, and the output doesn't grow with depth (BEiT: Bao et al. 2021, arXiv:2106.08254).
        for matrix in (block.attention.out.weight, block.mlp.down.weight):
            matrix.div_((2 * number) ** 0.5)
        for bias in (block.attention.q_bias, block.attention.v_bias):
            if bias is not None:
                bias.zero_()
        for scale in (block.scale_1, block.scale_2):
            if scale is not None and self.config.layer_scale is not None:
                scale.fill_(self.config.layer_scale)

    def embed(
        self, pixels: Float[Tensor, "batch 3 height wide"], masked: Masked | None = None
    ) -> tuple[Float[Tensor, "batch tokens width"], Rotary | None]:
        """The first block's input, the class token first, and what turns its queries and keys."""
        self._check_pictures(pixels, self.config.image_size)
        # [batch, width, rows, columns] -> [batch, patches, width]
        x = hide(self.patch(pixels).flatten(2).transpose(1, 2), masked)
        x = x + self.positions[1:].to(x.dtype)
        kept, rotary = self.drop.choose(x), None
        if self.config.rotary_grid is not None:
            width = self.width // self.config.heads
            # A kept patch turns by its own place in the picture, not by its place among the kept.
            table = rotary_table(self.side, self.config.rotary_grid, width, x.device)
            rotary = with_class_token(table if kept is None else table[:, kept]).to(x.dtype)[
                ..., None, None, :
            ]
        first = (self.class_token + self.positions[0]).to(x.dtype).expand(x.shape[0], 1, -1)
        return torch.cat([first, x if kept is None else take_patches(x, kept)], dim=1), rotary

    @property
    def grid(self) -> int:
        return self.side

    def forward(
        self,
        x: Float[Tensor, "batch 3 height wide"],
        tokens: TokenKind = "raw",
        masked: Masked | None = None,
    ) -> TowerOutput:
        """Pixels to tokens (the class token first; patches are [:, 1:]), feature and pooled vector.
        The feature is the class token or the mean, behind the final norm. With "none", where the
        class token is read, the last block computes that one alone."""
        x, rotary = self.embed(x, masked)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, rotary)
        if tokens == "none" and self.config.pool == "cls":
            # Keys and values of all tokens, but one query and one row of the MLP.
            x = read = last(x, rotary, first=True)
        else:
            x = last(x, rotary)
            read = self._pool(x)
        feature = self.norm_post(read)
        chosen = self._select(x, tokens, self.norm_post, self.projection)
        return TowerOutput(chosen, feature, self.projection(feature))

    def _pool(self, tokens: Tensor) -> Tensor:
        match self.config.pool:
            case "cls":
                return tokens[:, 0]
            case "mean":
                return tokens.mean(dim=1)
            case "patches":
                return tokens[:, 1:].mean(dim=1)
            case _:
                assert_never(self.config.pool)

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"]:
        """Where the class token is read, the value path of the last attention, as of CLIP's vision
        transformer; where a mean is, the patch itself."""
        *blocks, last = self.blocks
        x, rotary = self.embed(pixels)
        for block in blocks:
            x = block(x, rotary)
        x = last(x, rotary, values=self.config.pool == "cls")[:, 1:]
        return self.projection(self.norm_post(x))

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
