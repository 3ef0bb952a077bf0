"""A model with open_clip's face -> the model as Diptych has it."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from diptych.compat.faces.names import DECODER, part_of, text_prefix
from diptych.compat.faces.native import decoder_again, tower_again
from diptych.compat.faces.tower import OpenClipTower
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.parts.layers import PatchDropout
from diptych.compat.parts.text_parts import PARTS
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.timm_model import TimmModel
from diptych.config import ClipConfig, TowerConfig
from diptych.models import Clip, Decoder, Tower
from diptych.models.build import build_decoder
from diptych.weights.mapping import Table


@runtime_checkable
class Face(Protocol):
    """What is read of an `OpenClipModel`."""

    config: ClipConfig
    training: bool
    text_beside: bool
    text_decoder: Any
    image_tokens: nn.Linear | None
    text_tokens: nn.Linear | None
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None

    def image_again(self) -> Tower[Any]:
        """The image tower as Diptych has it."""
        raise NotImplementedError


@runtime_checkable
class TwoPasses(Protocol):
    """What is read of a model whose text tower and decoder are one."""

    def of_texts(self) -> dict[str, Tensor]:
        """What both passes have, by open_clip's names."""
        raise NotImplementedError

    def of_captions(self) -> dict[str, Tensor]:
        """What only captions have."""
        raise NotImplementedError


def unwrap(model: Face, table: Table) -> Clip:
    """The model as Diptych has it: see `OpenClipModel.clip`. `table`: our names <-> open_clip's."""
    config = model.config
    prefix = text_prefix(table.rules)
    parts = {name: getattr(model, name, None) for name in (*PARTS, "text")}
    if model.text_beside:
        of_text = nn.Module()
        for name in PARTS:
            setattr(of_text, name, parts[name])
    else:
        of_text = parts["text"]
    text = again(model, config.text, of_text, part_of(table, "text.", prefix))
    return _like(model, Clip(config, model.image_again(), text, _decoder(model, table)))


def unwrap_two_passes(model: Face, decoder: TwoPasses, table: Table) -> Clip:
    """The same of a model whose text tower and decoder are one."""
    config, trained = model.config, model.training
    assert config.decoder is not None
    made = build_decoder(config.decoder, torch.device("meta"))
    decoder_again(made, part_of(table, "decoder.", ""), decoder.of_captions(), trained)
    text_table = part_of(table, "text.", "")
    text = tower_again(config.text, config.embed_dim, text_table, decoder.of_texts(), trained)
    return _like(model, Clip(config, model.image_again(), text, made))


def _like(model: Face, clip: Clip) -> Clip:
    """With what stands beside the towers."""
    clip.image_tokens, clip.text_tokens = model.image_tokens, model.text_tokens
    clip.logit_scale = reshaped(model.logit_scale, 1)
    clip.logit_bias = None if model.logit_bias is None else reshaped(model.logit_bias, 1)
    clip.training = model.training
    _join(clip)
    return clip


def _join(clip: Clip) -> None:
    """Make one parameter of those over the same numbers, as whoever shared them has one: an
    optimiser would change them twice."""
    first: dict[Any, nn.Parameter] = {}
    for name, parameter in list(clip.named_parameters(remove_duplicate=False)):
        place = (parameter.data_ptr(), parameter.shape, parameter.stride(), parameter.dtype)
        one = first.setdefault(place, parameter) if place[0] else parameter
        if one is not parameter:
            owner, _, leaf = name.rpartition(".")
            setattr(clip.get_submodule(owner), leaf, one)


def _decoder(model: Face, table: Table) -> Decoder[Any] | None:
    part, config = model.text_decoder, model.config.decoder
    if part is None or config is None:
        return None
    made = build_decoder(config, torch.device("meta"))
    tensors = part.state_dict(keep_vars=True)
    decoder_again(made, part_of(table, "decoder.", DECODER), tensors, model.training)
    return made


def again(model: Face, config: TowerConfig, part: Any, table: Table) -> Tower[Any]:
    """A tower as Diptych has it, of `part`, as open_clip's model has it."""
    if isinstance(part, OpenClipTower | HFTextEncoder):
        return part.tower
    tensors: dict[str, Tensor] = {} if part is None else part.state_dict(keep_vars=True)
    tower = tower_again(config, model.config.embed_dim, table, tensors, model.training)
    if share := _dropped(part):
        tower.set_patch_dropout(share)
    return tower


def _dropped(part: Any) -> float:
    """The share of patches that are left out in training."""
    if isinstance(part, TimmModel):
        return part.patch_drop
    drop = part.patch_dropout if isinstance(part, VisionTransformer) else None
    return drop.share if isinstance(drop, PatchDropout) else 0.0


def reshaped(parameter: nn.Parameter, *shape: int) -> nn.Parameter:
    """A parameter of this shape over the same number."""
    return nn.Parameter(parameter.detach().reshape(shape), parameter.requires_grad)
