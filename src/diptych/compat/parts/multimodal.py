"""CoCa's decoder part by part by open_clip's names: `model.text_decoder`.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py
"""

from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.parts.attention import context_attn_mask_from_valid
from diptych.compat.parts.blocks import ResidualAttentionBlock
from diptych.compat.parts.layers import (
    Layer,
    LayerNorm,
    activation_layer,
    norm_layer_of,
)
from diptych.compat.parts.stack import Transformer, init_blocks, init_constants
from diptych.compat.parts.text_parts import causal_mask
from diptych.errors import ConfigError
from diptych.families.clip.layouts.towers import mlp_ratio as ratio_of
from diptych.families.coca import CocaDecoderConfig

T = TypeVar("T", bound="MultimodalTransformer")


class MultimodalTransformer(Transformer):
    """Blocks over the text so far, each followed by one that reads the picture's tokens.

    >>> import torch
    >>> from diptych.compat.transformer import MultimodalTransformer
    >>> made = MultimodalTransformer(16, layers=1, heads=2, context_length=8, output_dim=30)
    >>> made(torch.zeros(1, 5, 16), torch.zeros(1, 3, 16)).shape
    torch.Size([1, 3, 30])
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        context_length: int = 77,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = LayerNorm,
        output_dim: int = 512,
        batch_first: bool = True,
    ):
        """`output_dim`: different ids."""
        of_block = (heads, mlp_ratio, ls_init_value, act_layer, norm_layer)
        super().__init__(width, layers, *of_block, batch_first)
        self.context_length = context_length
        self.cross_attn: Any = nn.ModuleList(
            ResidualAttentionBlock(width, *of_block, True, batch_first) for _ in range(layers)
        )
        self.attn_mask: Tensor
        self.register_buffer("attn_mask", torch.empty(0), persistent=False)
        self.ln_final: nn.Module = norm_layer(width)
        self.text_projection: nn.Parameter | None = nn.Parameter(torch.empty(width, output_dim))
        self.init_parameters()

    @classmethod
    def of(cls: type[T], config: CocaDecoderConfig) -> T:
        """The decoder of this configuration."""
        return cls(
            config.width,
            config.layers,
            config.heads,
            config.context_length,
            ratio_of(config.width, config.mlp_width),
            act_layer=activation_layer(config.activation),
            norm_layer=norm_layer_of(config.norm_eps),
            output_dim=config.vocab_size,
        )

    def init_parameters(self) -> None:
        """Fill every parameter and the mask, wherever the module was built.

        | parameter           | value                                         |
        | ------------------- | --------------------------------------------- |
        | norms               | gain 1, bias 0                                |
        | `ls_1`, `ls_2`      | `ls_init_value`                               |
        | matrices of blocks  | see `nn.block.init_blocks`                    |
        | their biases        | 0                                             |
        | text_projection     | N(0, 1 / width)                               |
        """
        init_constants(self)
        for blocks in (self.resblocks, self.cross_attn):
            init_blocks(blocks, self.width)
        self.set_mask()
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection, std=self.width**-0.5)

    def build_attention_mask(self) -> Float[Tensor, "length length"]:
        """What is added to scores, so that no token sees a later one."""
        return causal_mask(self.context_length)

    def set_mask(self) -> None:
        """Make the causal mask, where the parameters are."""
        self.attn_mask = self.build_attention_mask().to(next(self.parameters()).device)

    @property
    def lm_head_params(self) -> tuple[Float[Tensor, "output_dim width"], None]:
        """The matrix that makes logits, as a linear layer has it, and its bias, of which there is
        none. Raises ConfigError where the matrix was taken away."""
        if self.text_projection is None:
            raise ConfigError("this decoder's text_projection was taken away: it makes no logits")
        return self.text_projection.T, None

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_embs: Float[Tensor, "batch tokens width"],
        text_embs: Float[Tensor, "batch length width"],
        context_valid: Tensor | None = None,
        return_hidden: bool = False,
    ) -> Float[Tensor, "batch length channels"]:
        """Logits of the next tokens, or with `return_hidden` what `text_projection` makes them of.
        `context_valid`, [batch, tokens]: which of the picture's aren't padding (None: all)."""
        length = text_embs.shape[1]
        mask = self.attn_mask[:length, :length]
        seen = self._hidden(context_valid, mask)
        image, x = self._turned(image_embs), self._turned(text_embs)
        for block, reader in zip(self.resblocks, self.cross_attn, strict=True):
            x = self.run(block, x, attn_mask=mask)
            x = self.run(reader, x, k_x=image, v_x=image, attn_mask=seen)
        x = self.ln_final(self._turned(x))
        bare = return_hidden or self.text_projection is None
        return x if bare else x @ self.text_projection

    def forward_intermediates(self, *args: Any, **options: Any) -> Any:
        """Raises AssertionError, as open_clip does: there are none of a decoder."""
        raise AssertionError("forward_intermediates is not implemented for MultimodalTransformer")

    def _hidden(self, valid: Tensor | None, mask: Float[Tensor, "length length"]) -> Tensor | None:
        """Which tokens of a picture no text as long as `mask` sees, for each row and head."""
        seen = context_attn_mask_from_valid(valid)
        if seen is None:
            return None
        heads = self.cross_attn[0].attn.num_heads
        return ~seen[:, 0].expand(-1, len(mask), -1).repeat_interleave(heads, 0)
