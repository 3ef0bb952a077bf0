"""The parts of OpenAI's models: tokens are [length, batch, width], and a text's blocks know their
mask.

https://github.com/openai/CLIP, clip/model.py
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diptych.compat import modified_resnet
from diptych.compat.parts import blocks, stack, text, vision
from diptych.compat.parts.layers import Layer, LayerNorm, QuickGELU, activation_layer, norm_layer_of
from diptych.families.clip.config import TransformerTextConfig
from diptych.families.clip.layouts.towers import VitSizes, mlp_ratio
from diptych.nn.block import TransformerSizes

V = TypeVar("V", bound="VisionTransformer")
X = TypeVar("X", bound="TextTransformer")


class ResidualAttentionBlock(blocks.ResidualAttentionBlock):
    """open_clip's block with the mask that it adds to scores where a call gives none.

    >>> import torch
    >>> from diptych.compat.clip.model import ResidualAttentionBlock
    >>> ResidualAttentionBlock(16, 2)(torch.zeros(5, 1, 16)).shape
    torch.Size([5, 1, 16])
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        attn_mask: Tensor | None = None,
        mlp_ratio: float = 4.0,
        act_layer: Layer = QuickGELU,
        norm_layer: Layer = LayerNorm,
    ):
        """The last three are open_clip's; OpenAI's blocks have these."""
        given = (mlp_ratio, None, act_layer, norm_layer)
        super().__init__(d_model, n_head, *given, batch_first=False)
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", attn_mask, persistent=False)

    def attention(  # pyright: ignore[reportIncompatibleMethodOverride]: it has one input
        self, x: Tensor, attn_mask: Tensor | None = None
    ) -> Tensor:
        """The first branch, of normalised tokens; `attn_mask` in the place of the block's own."""
        own, length = self.attn_mask, x.shape[0]
        if attn_mask is None and own is not None:
            attn_mask = own[:length, :length]
        return super().attention(x, attn_mask=attn_mask)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]: it has one input
        self, x: Tensor, attn_mask: Tensor | None = None
    ) -> Tensor:
        """As the class says; `attention` is called as OpenAI's, whose programs replace it."""
        given = {} if attn_mask is None else {"attn_mask": attn_mask}
        x = x + self.ls_1(self.attention(self.ln_1(x), **given))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(stack.Transformer):
    """`resblocks`, one after the other; `attn_mask` is every block's.

    >>> import torch
    >>> from diptych.compat.clip.model import Transformer
    >>> Transformer(16, layers=2, heads=2)(torch.zeros(5, 1, 16)).shape
    torch.Size([5, 1, 16])
    """

    length_first = True

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        attn_mask: Tensor | None = None,
        mlp_ratio: float = 4.0,
        act_layer: Layer = QuickGELU,
        norm_layer: Layer = LayerNorm,
    ):
        super().__init__(width, 0, heads, batch_first=False)
        self.layers = layers
        made: list[nn.Module] = []
        for _ in range(layers):
            given = (attn_mask, mlp_ratio, act_layer, norm_layer)
            made.append(ResidualAttentionBlock(width, heads, *given))
        self.resblocks = nn.Sequential(*made)

    def get_cast_dtype(self) -> torch.dtype:
        """Of the first matrix, whatever stands in the blocks' place."""
        return next(parameter.dtype for parameter in self.parameters() if parameter.ndim > 1)

    @classmethod
    def of(cls, sizes: TransformerSizes) -> "Transformer":
        """The blocks of this configuration."""
        return cls(
            sizes.width,
            sizes.layers,
            sizes.heads,
            mlp_ratio=mlp_ratio(sizes.width, sizes.mlp_width),
            act_layer=activation_layer(sizes.activation),
            norm_layer=norm_layer_of(sizes.norm_eps),
        )


class ModifiedResNet(modified_resnet.ModifiedResNet):
    """Pixels to vectors.

    >>> import torch
    >>> from diptych.compat.clip.model import ModifiedResNet
    >>> made = ModifiedResNet((1, 1, 1, 1), 6, heads=4, input_resolution=64, width=8)
    >>> made(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 6])
    """

    def __init__(
        self,
        layers: Sequence[int],
        output_dim: int,
        heads: int,
        input_resolution: int = 224,
        width: int = 64,
    ):
        super().__init__(layers, output_dim, heads, input_resolution, width)


class VisionTransformer(vision.VisionTransformer):
    """Pixels to vectors.

    >>> import torch
    >>> from diptych.compat.clip.model import VisionTransformer
    >>> made = VisionTransformer(32, 16, width=64, layers=1, heads=2, output_dim=8)
    >>> made(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8])
    """

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
    ):
        sizes = (input_resolution, patch_size, width, layers, heads)
        super().__init__(*sizes, 4.0, output_dim=output_dim)
        self.transformer = Transformer(width, layers, heads)

    @classmethod
    def of(cls: type[V], sizes: VitSizes, options: dict[str, Any], output_dim: int) -> V:
        """See `compat.parts.vision.VisionTransformer.of`."""
        made = super().of(sizes, options, output_dim)
        made.transformer = Transformer.of(sizes)
        return made


class TextTransformer(text.TextTransformer):
    """What OpenAI's `CLIP` has beside its image tower."""

    @classmethod
    def of(
        cls: type[X], sizes: TransformerTextConfig, options: dict[str, Any], output_dim: int
    ) -> X:
        """See `compat.parts.text.TextTransformer.of`."""
        made = super().of(sizes, options, output_dim)
        made.transformer = Transformer.of(sizes)
        return made

    def set_mask(self) -> None:
        """Make the causal mask, which the blocks have, too."""
        super().set_mask()
        for block in self.transformer.resblocks:
            block.attn_mask = self.attn_mask
