"""From a configuration to a model, on any device."""

from typing import assert_never

import torch

from diptych.config import (
    ClipConfig,
    EvaConfig,
    HuggingFaceTextConfig,
    ImageTowerConfig,
    ResNetConfig,
    TextConfig,
    TextTowerConfig,
    TimmConfig,
    UniRepLKNetConfig,
    VitConfig,
)
from diptych.errors import ConfigError
from diptych.models.bridges import HuggingFaceText, TimmTower
from diptych.models.clip import Clip
from diptych.models.eva import EvaTransformer
from diptych.models.resnet import ResNet
from diptych.models.text import TextTransformer
from diptych.models.tower import Tower
from diptych.models.unireplknet import UniRepLKNet
from diptych.models.vit import VisionTransformer


def build(
    config: ClipConfig,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    init: bool = True,
) -> Clip:
    """The model of `config`, initialised with torch's global generator.

    On `meta` it has shapes and no numbers. With `init=False` it has room for numbers that the
    caller loads. `dtype` None: float32.

    >>> from diptych import zoo
    >>> from diptych.models import build
    >>> sum(p.numel() for p in build(zoo.get("vit-b-32"), device="meta").parameters())
    151277313
    """
    device = torch.device(device)
    image, text = (
        build_tower(tower, config.embed_dim, device) for tower in (config.image, config.text)
    )
    with torch.device(device):
        model = Clip(config, image, text)
    model = model.to(dtype or torch.float32)
    if init and device.type != "meta":
        model.init()
    return model


def build_tower(
    config: ImageTowerConfig | TextTowerConfig,
    embed_dim: int | None,
    device: str | torch.device = "cpu",
) -> Tower:
    """The tower of `config`, on `device`, before `init`. Towers of other libraries are initialised
    by these.

    `embed_dim` None: an image tower alone, without a projection: EVA's or UniRepLKNet's. Raises
    ConfigError for others."""
    match config:
        case TimmConfig():
            with torch.device(device):
                return TimmTower(config, _required(embed_dim, config))
        case HuggingFaceTextConfig():
            with torch.device(device):
                return HuggingFaceText(config, _required(embed_dim, config))
    with torch.device("meta"):  # so that torch's own initialisation costs nothing
        tower = _native(config, embed_dim)
    # On meta `to_empty` would only import sympy, which takes a second.
    return tower if torch.device(device).type == "meta" else tower.to_empty(device=device)


def _native(
    config: VitConfig | EvaConfig | ResNetConfig | UniRepLKNetConfig | TextConfig,
    embed_dim: int | None,
) -> Tower:
    match config:
        case EvaConfig():
            return EvaTransformer(config, embed_dim)
        case UniRepLKNetConfig():
            return UniRepLKNet(config, embed_dim)
        case VitConfig():
            return VisionTransformer(config, _required(embed_dim, config))
        case ResNetConfig():
            return ResNet(config, _required(embed_dim, config))
        case TextConfig():
            return TextTransformer(config, _required(embed_dim, config))
        case _:
            assert_never(config)


def _required(embed_dim: int | None, config: ImageTowerConfig | TextTowerConfig) -> int:
    if embed_dim is None:
        raise ConfigError(
            f"a {type(config).__name__} has no tower without a projection; "
            "EVA and UniRepLKNet have one"
        )
    return embed_dim
