"""What arguments of open_clip's factories change in a model's configuration, and how its weights
follow."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from diptych.compat.coca_model import MultimodalCfg
from diptych.compat.loading.activations import with_activation
from diptych.compat.loading.own_folders import name_text_folders
from diptych.compat.loading.positions import with_context
from diptych.compat.model import CLIPTextCfg, CLIPVisionCfg, section
from diptych.config import ClipConfig, PreprocessConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.families.clip.layouts.open_clip_config import from_json, model_json
from diptych.models import Clip, build_tower

SECTIONS: dict[str, type[Any]] = {
    "vision_cfg": CLIPVisionCfg,
    "text_cfg": CLIPTextCfg,
    "multimodal_cfg": MultimodalCfg,
}
"""Of a `model_cfg`: a given one takes the place of the model's own, as in open_clip."""
FIELDS = (*SECTIONS, "embed_dim", "quick_gelu", "init_logit_scale", "init_logit_bias")
"""What may be changed before a model is built."""


def overridden(config: ClipConfig, said: Mapping[str, Any]) -> ClipConfig:
    """The configuration with other `FIELDS` of its `model_cfg`. Raises ConfigError for a field that
    a section doesn't have, and CheckpointError for a model that open_clip, or Diptych, can't
    express.

    >>> from diptych import pretrained
    >>> from diptych.compat.loading.overrides import overridden
    >>> vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    >>> overridden(pretrained.get("vit-b-32"), {"vision_cfg": vision}).image.image_size
    32
    """
    sections = sections_of(said)
    if sections:
        content = model_json(config) | sections
        name_text_folders(content)
        made = from_json({"model_cfg": content})
        config = replace(
            made,
            preprocess=_pictures(made, config.preprocess),
            logit_scale=config.logit_scale,
            tokenizer=made.tokenizer if "text_cfg" in sections else config.tokenizer,
        )
    if said.get("embed_dim") is not None:
        config = replace(config, embed_dim=said["embed_dim"])
    if said.get("quick_gelu") is not None:
        config = with_activation(config, "quick_gelu" if said["quick_gelu"] else "gelu")
    return config


def _pictures(made: ClipConfig, before: PreprocessConfig) -> PreprocessConfig:
    """As before; how large pictures of their own aspect are, stands beside the tower."""
    if not made.image.native:
        return before
    how = made.preprocess
    return replace(before, resize=how.resize, patches=how.patches, patch_size=how.patch_size)


def started(config: ClipConfig, said: Mapping[str, Any]) -> ClipConfig:
    """The configuration with scale and bias starting elsewhere. Raises ConfigError for what is no
    number."""
    for word, field in (("init_logit_scale", "logit_scale"), ("init_logit_bias", "logit_bias")):
        value = said.get(word)
        if value is None:
            continue
        try:
            config = replace(config, **{field: float(value)})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{word}={value!r} must be a finite number") from error
    return config


def sections_of(said: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The given sections of a `model_cfg`. Raises ConfigError for a field that one doesn't have."""
    return {name: _section(name, said[name]) for name in SECTIONS if said.get(name) is not None}


def _section(name: str, given: Any) -> dict[str, Any]:
    kind = SECTIONS[name]
    if not isinstance(given, Mapping | kind):
        raise ConfigError(f"{name} must be a dictionary or a {kind.__name__}, not {given!r}")
    known = [field.name for field in fields(kind)]
    for field in given if isinstance(given, Mapping) else ():
        if field not in known:
            raise UnknownNameError(f"field of {name}", str(field), known)
    return section(dict(given) if isinstance(given, Mapping) else given, kind)


def with_context_length(clip: Clip, length: int) -> None:
    """Texts of another length, in place: the table of positions is interpolated, as open_clip does
    it."""
    config = replace(clip.config.text, context_length=length)
    if config == clip.config.text:
        return
    parameter = next(clip.text.parameters())
    tower = build_tower(config, clip.config.embed_dim).to(parameter.device, parameter.dtype)
    with_context(clip.text, tower)
    clip.text = tower.train(clip.text.training)
    clip.config = replace(clip.config, text=config)


def with_bias(clip: Clip) -> None:
    """A bias of 0, in place, where the weights have none: what open_clip gives weights of CLIP's
    that go on with SigLIP's loss, so that the logits stay what they are."""
    if clip.logit_bias is None:
        clip.logit_bias = nn.Parameter(torch.zeros_like(clip.logit_scale))
        clip.config = replace(clip.config, logit_bias=0.0)
