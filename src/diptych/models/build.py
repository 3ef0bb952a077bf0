"""From a configuration to a model, on any device."""

from typing import Any

import torch

from diptych.components import implementation, subclass_of
from diptych.config import ClipConfig, DecoderConfig, TowerConfig
from diptych.errors import ConfigError
from diptych.models.clip import Clip
from diptych.models.decoder import Decoder
from diptych.models.tower import Tower


def build(
    config: ClipConfig,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    init: bool = True,
) -> Clip:
    """The model of `config`, initialised with torch's global generator.

    Of a tower alone (`config.alone`) the other one is an `AbsentTower`. Raises ConfigError for
    parts that don't fit each other.

    On `meta` it has shapes and no numbers. With `init=False` it has room for numbers that the
    caller loads. `dtype` None: float32.

    >>> from diptych import pretrained
    >>> from diptych.models import build
    >>> sum(p.numel() for p in build(pretrained.get("vit-b-32"), device="meta").parameters())
    151277313
    """
    device = torch.device(device)
    embed_dim = config.embed_dim if config.projected else None
    image = build_tower(config.image, embed_dim, device)
    text = build_tower(config.text, embed_dim, device)
    alone = (tower.feature_width for tower in (image, text) if tower.config.present)
    if embed_dim is None and any(width != config.embed_dim for width in alone):
        raise ConfigError(
            f"embed_dim {config.embed_dim}: without projection the vectors are as wide as the "
            "tower's features"
        )
    decoder = None if config.decoder is None else build_decoder(config.decoder, device)
    if decoder is not None:
        decoder.check_towers(image, text)
    with torch.device(device):
        model = Clip(config, image, text, decoder)
    model = model.to(dtype or torch.float32)
    if init and device.type != "meta":
        model.init()
    return model


def build_tower(
    config: TowerConfig, embed_dim: int | None, device: str | torch.device = "cpu"
) -> Tower[Any]:
    """The tower of `config`, on `device`, before `init`. Towers of other libraries are initialised
    by these.

    `embed_dim` None: an image tower alone, without a projection. Raises ConfigError for a kind of
    tower that always has one, and for an implementation that is no tower.

    >>> from diptych.families.clip import VitConfig
    >>> from diptych.models import build_tower
    >>> build_tower(VitConfig(), embed_dim=512, device="meta").width
    768
    """
    kind: type[Tower[Any]] = subclass_of(Tower, implementation(config), config.implementation)
    return kind.build(config, embed_dim, torch.device(device))


def build_decoder(config: DecoderConfig, device: torch.device) -> Decoder[Any]:
    """The decoder of `config`, on `device`, before `init`. Raises ConfigError for an implementation
    that is none.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.models.build import build_decoder
    >>> config = pretrained.get("coca-vit-b-32").decoder
    >>> build_decoder(config, torch.device("meta")).width
    512
    """
    return subclass_of(Decoder, implementation(config), config.implementation).build(config, device)
