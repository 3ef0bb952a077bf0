"""Objectives of older runs, whose general configurations had DeCLIP's options as fields."""

import dataclasses
from typing import Any, NamedTuple, cast

from diptych.components import Component
from diptych.config import (
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    TokenPairsConfig,
)
from diptych.config.serialize import to_dict
from diptych.families.declip.published_config import (
    LocalNormSimClrConfig,
    PublishedClipObjectiveConfig,
    PublishedDeclipObjectiveConfig,
    PublishedDefilipObjectiveConfig,
    PublishedFilipObjectiveConfig,
    PublishedSimSiamConfig,
    PublishedTokenPairsConfig,
)

_CLIP = {"largest_scale_used": None, "clamp_before_step": False}
_TOKENS = {"clamp_before_step": False}
_NORMS = {"share_statistics": True}
_DECLIP = {"share_queue": True, "contrast_masked": False, "share_words": True}
_FILIP = {"contrast_masked": False}


class _Moved(NamedTuple):
    """Options that have moved to another class."""

    plain: type[Component]
    """The class that had them."""
    published: type[Component]
    """The class that has them now."""
    off: dict[str, Any]
    """Their values when they were off."""


_MOVED = (
    _Moved(ClipObjectiveConfig, PublishedClipObjectiveConfig, _CLIP),
    _Moved(TokenPairsConfig, PublishedTokenPairsConfig, _TOKENS),
    _Moved(SimClrConfig, LocalNormSimClrConfig, _NORMS),
    _Moved(SimSiamConfig, PublishedSimSiamConfig, _NORMS),
    _Moved(FilipObjectiveConfig, PublishedFilipObjectiveConfig, _FILIP),
    _Moved(DeclipObjectiveConfig, PublishedDeclipObjectiveConfig, _DECLIP),
    _Moved(DefilipObjectiveConfig, PublishedDefilipObjectiveConfig, _DECLIP),
)
_BY_NAME = {moved.plain.__name__: moved for moved in _MOVED}


def upgrade_objective(values: dict[str, Any]) -> dict[str, Any]:
    """The dictionary of an objective, as `to_dict` writes it today, from one that it may have
    written when DeCLIP's options were fields of the general configurations.

    Where an option was on, the type becomes the one that has it; where all were off, they are
    dropped. Other dictionaries come back as they are.

    >>> from diptych.families.declip.upgrade import upgrade_objective
    >>> upgrade_objective({"type": "FilipObjectiveConfig", "contrast_masked": False})
    {'type': 'FilipObjectiveConfig'}
    >>> upgrade_objective({"type": "SimSiamConfig", "width": 16, "share_statistics": False})
    {'type': 'PublishedSimSiamConfig', 'width': 16, 'hidden': 512, 'share_statistics': False}
    """
    values = {name: _upgrade_part(value) for name, value in values.items()}
    found = _BY_NAME.get(str(values.get("type")))
    if found is None:
        return values
    options = {name: values.pop(name, value) for name, value in found.off.items()}
    if options == found.off:
        return values
    # The published class has other defaults: what the file doesn't say is what the older one had.
    fields = {field.name for field in dataclasses.fields(cast(Any, found.published))}
    kept = {name: value for name, value in options.items() if name in fields}
    return to_dict(found.plain()) | values | kept | {"type": found.published.__name__}


def _upgrade_part(value: Any) -> Any:
    return upgrade_objective(value) if isinstance(value, dict) else value
