"""Diptych's towers -> the modules that open_clip has them of, with the same weights, and back."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diptych.compat.faces.naflex_timm import NaflexTimmModel
from diptych.compat.modified_resnet import ModifiedResNet
from diptych.compat.parts.genlip import GenLipVisual, visual_of
from diptych.compat.parts.layers import PatchDropout
from diptych.compat.parts.modern import ModernMultimodalTransformer, ModernTextTransformer
from diptych.compat.parts.multimodal import MultimodalTransformer
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.timm_model import TimmModel
from diptych.config import TowerConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.config import ResNetConfig, TransformerTextConfig
from diptych.families.clip.layouts.open_clip_config import tower_of
from diptych.families.clip.layouts.timm import ARGUMENTS
from diptych.families.clip.layouts.towers import VitSizes
from diptych.families.coca import CocaDecoderConfig
from diptych.families.genlip.config import GenlipSizes
from diptych.families.modern import ModernDecoderConfig, ModernTextConfig
from diptych.models import Decoder, Tower, build_tower
from diptych.models.shapes import shapes_only
from diptych.nn import PatchDropout as OurPatchDropout
from diptych.weights.mapping import Table

M = TypeVar("M", bound=nn.Module)


def vision_of(
    tower: Tower[Any],
    embed_dim: int,
    table: Table,
    kind: type[VisionTransformer] = VisionTransformer,
) -> VisionTransformer | None:
    """The tower as open_clip's own vision transformer; None: open_clip builds it of another
    library's parts, or not at all. `table`: its names there. `kind`: or as OpenAI has it."""
    options = _options(tower.config)
    if options is None or not isinstance(tower.config, VitSizes):
        return None
    with shapes_only():
        made = kind.of(tower.config, options, embed_dim)
    filled = _filled(made, tower, table)
    for drop in tower.modules() if filled else ():
        if isinstance(drop, OurPatchDropout) and isinstance(made.patch_dropout, PatchDropout):
            made.patch_dropout.share = drop.share
    return filled


def resnet_of(
    tower: Tower[Any],
    embed_dim: int,
    table: Table,
    kind: type[ModifiedResNet] = ModifiedResNet,
) -> ModifiedResNet | None:
    """The same of CLIP's ResNet."""
    if type(tower.config) is not ResNetConfig or _options(tower.config) is None:
        return None
    with shapes_only():
        made = kind.of(tower.config, embed_dim)
    return _filled(made, tower, table)


def timm_of(tower: Tower[Any], embed_dim: int, table: Table) -> TimmModel | None:
    """The same of a tower that open_clip has of timm, whether Diptych has it of timm or its own;
    None where timm builds none that has these tensors."""
    options = _written(tower.config)
    if options is None or "timm_model_name" not in options:
        return None
    native = tower.config.native
    kind, arguments = NaflexTimmModel if native else TimmModel, options.get(ARGUMENTS, {})
    shares = [each.share for each in tower.modules() if isinstance(each, OurPatchDropout)]
    try:
        with shapes_only():
            made = kind(
                options["timm_model_name"],
                embed_dim,
                image_size=tower.config.image_size,
                pool=options["timm_pool"],
                proj=options["timm_proj"],
                patch_drop=max(shares, default=0.0) or None,
                model_kwargs=arguments | {"enable_patch_interpolator": True} if native else None,
            )
    except ConfigError:
        return None
    filled = _filled(made, tower, table)
    if filled is not None:
        filled.fill_computed()
    return filled


def genlip_of(tower: Tower[Any], embed_dim: int, table: Table) -> GenLipVisual | None:
    """The same of GenLIP's; None also where patches are dropped in training, which open_clip's
    can't."""
    dropped = any(each.share for each in tower.modules() if isinstance(each, OurPatchDropout))
    if not isinstance(tower.config, GenlipSizes) or dropped:
        return None
    with shapes_only():
        made = visual_of(tower.config, embed_dim)
    return _filled(made, tower, table)


def text_of(
    tower: Tower[Any],
    embed_dim: int,
    table: Table,
    kind: type[TextTransformer] = TextTransformer,
) -> TextTransformer | None:
    """The same of a text tower."""
    options = _options(tower.config)
    if options is None or not isinstance(tower.config, TransformerTextConfig):
        return None
    with shapes_only():
        made = kind.of(tower.config, options, embed_dim)
    filled = _filled(made, tower, table)
    if filled is not None:
        filled.set_mask()
    return filled


def modern_of(tower: Tower[Any], embed_dim: int, table: Table) -> ModernTextTransformer | None:
    """The same of a "modern" text tower."""
    options = _options(tower.config)
    if options is None or not isinstance(tower.config, ModernTextConfig):
        return None
    with shapes_only():
        made = ModernTextTransformer.of(tower.config, options, embed_dim)
    return _filled(made, tower, table)


def decoder_of(
    decoder: Decoder[Any], table: Table
) -> MultimodalTransformer | ModernMultimodalTransformer:
    """The same of what writes captions. Raises ConfigError for one that open_clip hasn't."""
    config = decoder.config
    with shapes_only():
        if type(config) is CocaDecoderConfig:
            made = MultimodalTransformer.of(config)
        elif type(config) is ModernDecoderConfig:
            made = ModernMultimodalTransformer.of(config, tower_of(config).write(config))
        else:
            raise ConfigError(f"open_clip has no decoder like that of a {type(config).__name__}")
    filled = _filled(made, decoder, table)
    assert filled is not None
    if isinstance(filled, MultimodalTransformer):
        filled.set_mask()
    return filled


def tower_again(
    config: TowerConfig, embed_dim: int, table: Table, tensors: Mapping[str, Tensor], trained: bool
) -> Tower[Any]:
    """A tower of ours of open_clip's `tensors`, whose numbers it shares where they are laid out
    alike, in training mode if `trained`. Raises ConfigError where parts were taken away or
    replaced."""
    tower = build_tower(config, embed_dim, "meta")
    fill_again(tower, table, tensors)
    return tower.train(trained)


def decoder_again(
    decoder: Decoder[Any], table: Table, tensors: Mapping[str, Tensor], trained: bool
) -> None:
    """The same for a decoder without numbers, in place."""
    fill_again(decoder, table, tensors)
    decoder.train(trained)


def fill_again(made: nn.Module, table: Table, tensors: Mapping[str, Tensor]) -> None:
    """Fill modules of ours with open_clip's `tensors`. Raises as `tower_again`."""
    try:
        ours = table.to_ours({name: tensor.detach() for name, tensor in tensors.items()})
        state = {name.removeprefix("tower."): tensor for name, tensor in ours.items()}
        made.load_state_dict(state, assign=True)
    except (CheckpointError, RuntimeError) as error:
        raise ConfigError(
            f"parts of this model were replaced, so it is none of Diptych's any more: {error}"
        ) from error
    for name, parameter in made.named_parameters():
        foreign = table.foreign_names(f"tower.{name}")
        parameter.requires_grad_(tensors[foreign[0]].requires_grad)


def _options(config: TowerConfig) -> dict[str, Any] | None:
    """What open_clip's configuration says of its own transformer; None: it is none."""
    options = _written(config)
    other = {"timm_model_name", "hf_model_name"} & (options or {}).keys()
    return None if other else options


def _written(config: TowerConfig) -> dict[str, Any] | None:
    """What open_clip's configuration says of a tower; None: it has none like it."""
    try:
        kind = tower_of(config)
        options = kind.write(config)
    except CheckpointError:
        return None
    # A subclass computes something else, which no option tells.
    return options if type(config) is kind.kind else None


def _filled(made: M, tower: nn.Module, table: Table) -> M | None:
    """With the tower's numbers; None where their names or their shapes aren't the same."""
    state = table.to_foreign(tower.state_dict(prefix="tower."))
    if _shapes(state) != _shapes(made.state_dict()):
        return None
    made.load_state_dict(state, assign=True)
    frozen: list[str] = []
    for name, parameter in tower.named_parameters():
        frozen += () if parameter.requires_grad else table.foreign_names(f"tower.{name}")
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return made.train(tower.training)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
