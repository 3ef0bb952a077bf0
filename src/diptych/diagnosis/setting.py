"""A model and its inputs as separate parts, of which each can be exchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from diptych.components import reason
from diptych.config import Activation, ClipConfig, TowerConfig
from diptych.diagnosis.load import Load
from diptych.errors import CheckpointError, ConfigError
from diptych.models.evaluating import evaluating
from diptych.weights.assemble import assemble
from diptych.weights.state import State


class Vectors(NamedTuple):
    """Of the pictures and of the texts, one row each, of any length."""

    images: Tensor
    texts: Tensor


class Cosines(NamedTuple):
    """Between two loads' vectors of the same picture, and of the same text: the lowest; 0 for a
    vector that isn't finite in one of them."""

    images: float
    texts: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that decides vectors."""

    config: ClipConfig
    weights: Mapping[str, Tensor]
    pixels: Tensor
    """[pictures, 3, height, width], normalised."""
    ids: Tensor
    """[texts, length]."""
    dtype: torch.dtype

    def vectors(self) -> Vectors:
        """As our towers compute them. Raises CheckpointError or ConfigError for parts that don't
        fit together."""
        model = assemble(State.of(self.weights), self.config, dtype=self.dtype)
        with evaluating(model):
            images = model.encode_image(self.pixels.to(self.dtype))
            return Vectors(images.float(), model.encode_text(self.ids).float())

    def with_tower(self, side: str, tower: TowerConfig) -> "Setting":
        """With another configuration of the image or the text tower."""
        return replace(self, config=replace(self.config, **{side: tower}))


def lowest(one: Vectors, other: Vectors) -> Cosines:
    """The cosines of the picture, and of the text, in which the two agree least."""
    return Cosines(*(_lowest(mine, theirs) for mine, theirs in zip(one, other, strict=True)))


def _lowest(mine: Tensor, theirs: Tensor) -> float:
    if torch.allclose(mine, theirs, rtol=0, atol=0, equal_nan=True):
        return 1.0
    # In float64: near 1 a float32 has no digits for the difference. A vector that isn't finite has
    # no direction, and nan would compare as if it were no difference.
    found = cosine_similarity(mine.double(), theirs.double(), dim=-1)
    return float(found.nan_to_num(0.0).min())


def attempt(setting: Setting) -> Vectors | None:
    """Its vectors; None where its parts don't fit together."""
    try:
        return setting.vectors()
    except (CheckpointError, ConfigError, IndexError):  # the last for ids beyond a table
        return None


@torch.no_grad()
def actual(load: Load, setting: Setting) -> Vectors:
    """Vectors of the same inputs as the load's own code computes them. Raises ConfigError where it
    refuses them."""
    try:
        images, texts = load.encode_image(setting.pixels), load.encode_text(setting.ids)
    except Exception as error:  # whatever somebody's code raises
        raise ConfigError(f"{load.name} refuses its own inputs: {reason(error)}") from error
    return Vectors(images.detach().float().cpu(), texts.detach().float().cpu())


def told(setting: Setting, wanted: Vectors, enough: float) -> tuple[Setting, Vectors | None]:
    """The setting with the activations with which our towers come nearest to the vectors `wanted`
    of some code, and these vectors (None: they refuse): what a file or a name says of it may not be
    what runs. A tower that is off by less than `enough` (one minus the cosine) keeps its own."""
    ours = attempt(setting)
    for place, side in enumerate(("image", "text")):
        best, off = (setting, ours), _off(ours, wanted, place)
        for tried in _activated(setting, side) if off > enough else ():
            vectors = attempt(tried)
            distance = _off(vectors, wanted, place)
            if distance < off / 2:
                best, off = (tried, vectors), distance
        setting, ours = best
    return setting, ours


def _off(found: Vectors | None, wanted: Vectors, place: int) -> float:
    return 2.0 if found is None else 1 - lowest(found, wanted)[place]


def _activated(setting: Setting, side: str) -> list[Setting]:
    tower: Any = setting.config.image if side == "image" else setting.config.text
    if not any(field.name == "activation" for field in fields(tower)):
        return []
    others = (each for each in get_args(Activation) if each != tower.activation)
    return [setting.with_tower(side, replace(tower, activation=each)) for each in others]
