"""The parts of open_clip's GenLIP, with its arguments and names of weights; its blocks are
Diptych's.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_genlip_model.py
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.compat.faces.naflex import packed, packed_squares, patches_of
from diptych.compat.parts.genlip_config import (
    NaFlexGenLipTrunkCfg,
    NaFlexGenLipVisionCfg,
    sizes_of,
)
from diptych.compat.parts.genlip_rows import build_image_position_ids, build_patch_attn_mask
from diptych.compat.parts.locks import Group, NamedGroups, groups_of, lock_groups, named_groups
from diptych.compat.parts.stack import check_impl
from diptych.errors import ConfigError
from diptych.families.genlip.block import GenlipBlock, norm_of
from diptych.families.genlip.config import GenlipSizes, check_sections
from diptych.families.genlip.layouts.open_clip import write_tower
from diptych.families.genlip.rotary import Turns, turns
from diptych.nn import PatchEmbedding
from diptych.nn.padding import mean_of_real


class GenLipRotaryEmbedding(nn.Module):
    """Cosines and sines of tokens by time, row and column. Raises ConfigError for sections that
    aren't as many pairs as a head has.

    >>> import torch
    >>> from diptych.compat.naflex_genlip_model import GenLipRotaryEmbedding, NaFlexGenLipTrunkCfg
    >>> rotary = GenLipRotaryEmbedding(NaFlexGenLipTrunkCfg())
    >>> rotary(torch.zeros(1), torch.zeros(3, 1, 5, dtype=torch.long))[0].shape
    torch.Size([1, 5, 72])
    """

    def __init__(self, cfg: NaFlexGenLipTrunkCfg):
        super().__init__()
        check_sections(tuple(cfg.mrope_section), cfg.width // cfg.num_heads)
        self.mrope_section, self.theta = tuple(cfg.mrope_section), cfg.rope_theta
        self.mrope_interleaved = cfg.mrope_interleaved

    def forward(self, x: Tensor, position_ids: Int[Tensor, "3 batch tokens"]) -> Turns:
        """In the precision of `x`."""
        if not self.mrope_interleaved:  # then all pairs turn by time
            position_ids = position_ids[:1].expand(3, -1, -1)
        return turns(position_ids, self.mrope_section, self.theta, x.dtype)


class GenLipBlock(GenlipBlock):
    """Diptych's block with open_clip's arguments: `norm_layer` makes a norm of so many channels;
    None, here and of biases: as `cfg` says."""

    def __init__(
        self,
        cfg: NaFlexGenLipTrunkCfg,
        norm_layer: Callable[[int], nn.Module] | None = None,
        attn_bias: bool | None = None,
        mlp_bias: bool | None = None,
    ):
        sizes = sizes_of(cfg)
        if attn_bias is not None:
            sizes = replace(sizes, attention_bias=attn_bias)
        if mlp_bias is not None:
            sizes = replace(sizes, mlp_bias=mlp_bias)
        super().__init__(sizes)
        self.drop_path.rate = cfg.drop_path_rate
        if norm_layer is not None:
            self.layer_norm1, self.layer_norm2 = norm_layer(cfg.width), norm_layer(cfg.width)


class GenLipTrunk(nn.Module):
    """The blocks, and the norm behind them."""

    def __init__(self, cfg: NaFlexGenLipTrunkCfg):
        super().__init__()
        self.layers = nn.ModuleList(GenLipBlock(cfg) for _ in range(cfg.depth))
        self.ln_post = norm_of(sizes_of(cfg), cfg.width)
        self.grad_checkpointing = False

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        attn_mask: Tensor | None,
        cos: Tensor,
        sin: Tensor,
    ) -> Float[Tensor, "batch tokens width"]:
        """Tokens, normed. `attn_mask`: which each one sees (None: all)."""
        again = self.grad_checkpointing and self.training
        for layer in self.layers:
            given = (x, attn_mask, cos, sin)
            x = checkpoint(layer, *given, use_reentrant=False) if again else layer(*given)
        return self.ln_post(x)


class GenLipPatchEmbed(nn.Module):
    """Patches of numbers, normed where it is asked for, and projected."""

    def __init__(
        self,
        vision_cfg: NaFlexGenLipVisionCfg,
        width: int,
        norm_eps: float = 1e-6,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        numbers = vision_cfg.in_chans * vision_cfg.patch_size**2
        self.norm_input = nn.LayerNorm(numbers) if vision_cfg.input_norm else None
        self.proj: nn.Module = nn.Linear(numbers, width, bias=vision_cfg.proj_bias)
        norm = norm_layer or partial(nn.LayerNorm, eps=norm_eps)
        self.norm_pre = norm(width) if vision_cfg.pre_norm else nn.Identity()

    def forward(
        self, patches: Float[Tensor, "batch patches numbers"]
    ) -> Float[Tensor, "batch patches width"]:
        """As the first block reads them."""
        if self.norm_input is not None:
            patches = self.norm_input(patches)
        return self.norm_pre(self.proj(patches))


class GenLipPixelEmbed(GenLipPatchEmbed):
    """Squares of pixels, whose patches are projected by a convolution. Raises ConfigError for an
    `input_norm`, which is of patches."""

    def __init__(self, vision_cfg: NaFlexGenLipVisionCfg, width: int, *norms: Any, **options: Any):
        if vision_cfg.input_norm:
            raise ConfigError("input_norm is of patches: leave it out, or genlip_naflex=False")
        super().__init__(vision_cfg, width, *norms, **options)
        size = vision_cfg.patch_size
        self.proj = PatchEmbedding(
            vision_cfg.in_chans, width, size, size, bias=vision_cfg.proj_bias
        )

    def forward(
        self, patches: Float[Tensor, "batch 3 high wide"]
    ) -> Float[Tensor, "batch patches width"]:
        """As the first block reads them."""
        return self.norm_pre(self.proj(patches).flatten(2).transpose(1, 2))


class GenLipVisual(nn.Module):
    """An image tower: parts that a model that writes captions has, too, or its own."""

    def __init__(
        self,
        patch_embed: GenLipPatchEmbed,
        trunk: GenLipTrunk,
        rotary: GenLipRotaryEmbedding,
        vision_cfg: NaFlexGenLipVisionCfg,
        width: int,
        embed_dim: int,
    ):
        super().__init__()
        self.patch_embed, self.trunk, self.rotary = patch_embed, trunk, rotary
        self.pool_type = vision_cfg.pool_type
        size, patch = vision_cfg.image_size, vision_cfg.patch_size
        self.image_size, self.patch_size = (size, size), (patch, patch)
        self.image_seq_len = (size // patch) ** 2
        self.output_dim = embed_dim
        self.preprocess_cfg: dict[str, Any] = {}
        self.proj = nn.Identity() if embed_dim == width else nn.Linear(width, embed_dim)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def get_patch_size(self) -> tuple[int, int]:
        """In pixels."""
        return self.patch_size

    def patches(self, image: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The first block's input, rows and columns of patches, and which of them there are."""
        raise NotImplementedError

    def pixels(self, image: Any) -> Tensor:
        """Pictures as Diptych's tower takes them."""
        raise NotImplementedError

    def forward(self, image: Any) -> Float[Tensor, "batch embed_dim"]:
        """The mean of a picture's patches behind the norm, projected."""
        x, coordinates, valid = self.patches(image)
        turned = self.rotary(x, build_image_position_ids(coordinates))
        x = self.trunk(x, build_patch_attn_mask(valid), *turned)
        return self.proj(mean_of_real(x, valid))

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        check_impl(impl)
        self.trunk.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of tables without weight decay: there are none."""
        return set()

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """Modules from the input on, by name; `pooler_in_head` has no meaning here."""
        return named_groups(self._groups(), isinstance(self.proj, nn.Linear))

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last groups of layers. There are no statistics to freeze."""
        lock_groups(self._groups(), unlocked_groups)

    def _groups(self) -> list[Group]:
        head = [self.proj] if isinstance(self.proj, nn.Linear) else [None]
        return groups_of([self.patch_embed], self.trunk.layers, [self.trunk.ln_post], head)


class NaFlexGenLipVisualAdapter(GenLipVisual):
    """The tower of pictures of their own aspect, as `compat.faces.naflex` says; it takes pixels of
    whole patches, too."""

    def patches(self, image: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See `GenLipVisual`."""
        found = patches_of(image, self.patch_size[0])
        x = self.patch_embed(found["patches"].to(self.dtype))
        return x, found["patch_coord"], found["patch_valid"].bool()

    def pixels(self, image: Any) -> Tensor:
        """See `GenLipVisual`."""
        size = self.patch_size[0]
        if isinstance(image, Mapping):
            image = packed(image, size)
        elif image.shape[3] != size:
            image = packed_squares(image, size)
        return image.to(self.dtype)


class GenLipVisualAdapter(GenLipVisual):
    """The tower of squares."""

    def patches(self, image: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See `GenLipVisual`."""
        x = self.patch_embed(self.pixels(image))
        columns = image.shape[3] // self.patch_size[1]
        places = torch.arange(x.shape[1], device=x.device)
        coordinates = torch.stack((places // columns, places % columns), dim=-1)
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return x, coordinates.expand(len(x), -1, -1), valid

    def pixels(self, image: Any) -> Tensor:
        """See `GenLipVisual`. Raises ConfigError for patches by name."""
        if isinstance(image, Mapping):
            raise ConfigError("this tower takes squares of pixels, and no patches by name")
        return image.to(self.dtype)


def visual_of(config: GenlipSizes, embed_dim: int) -> GenLipVisual:
    """The tower of a configuration of Diptych's, without values that mean anything."""
    vision, section = write_tower(config)
    known = {field.name for field in fields(NaFlexGenLipVisionCfg)}
    vision_cfg = NaFlexGenLipVisionCfg(**{n: v for n, v in vision.items() if n in known})
    return build_visual(vision_cfg, NaFlexGenLipTrunkCfg(**section), embed_dim, config.native)


def build_visual(
    vision_cfg: NaFlexGenLipVisionCfg, cfg: NaFlexGenLipTrunkCfg, embed_dim: int, native: bool
) -> GenLipVisual:
    """A tower of parts of its own."""
    kind = NaFlexGenLipVisualAdapter if native else GenLipVisualAdapter
    embed, trunk = build_embed(vision_cfg, cfg, native), GenLipTrunk(cfg)
    return kind(embed, trunk, GenLipRotaryEmbedding(cfg), vision_cfg, cfg.width, embed_dim)


def build_embed(
    vision_cfg: NaFlexGenLipVisionCfg, cfg: NaFlexGenLipTrunkCfg, native: bool
) -> GenLipPatchEmbed:
    """What makes tokens of pictures."""
    kind = GenLipPatchEmbed if native else GenLipPixelEmbed
    return kind(vision_cfg, cfg.width, norm_layer=partial(norm_of, sizes_of(cfg)))
