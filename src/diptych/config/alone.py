"""A tower alone: a model whose other tower isn't there.

Many files hold one tower (those of masked image modelling, transformers' `CLIPVisionModel`).
They are whole models to everything here, with vectors of pictures or of texts alone: what isn't
there has a configuration, too, and says so where it is asked for something.
"""

from dataclasses import dataclass
from typing import Any

from diptych.config.model import ClipConfig, ImageTowerConfig, Side, TextTowerConfig, TowerConfig
from diptych.errors import ConfigError

_LEFT: dict[Side, str] = {
    "text": (
        "its image tower is alone: embed pictures, search them by a picture, classify them by "
        "examples of each class (`diptych classify … --examples FOLDER`), evaluate it by linear/… "
        "and fewshot/… tasks"
    ),
    "image": "its text tower is alone: embed_texts gives vectors of texts",
}
"""What there is, by what is missing."""


@dataclass(frozen=True, kw_only=True)
class NoImageTower(ImageTowerConfig):
    """There is no image tower: the text tower is alone."""

    implementation = "diptych.models.absent:AbsentTower"
    present = False


@dataclass(frozen=True, kw_only=True)
class NoTextTower(TextTowerConfig):
    """There is no text tower: the image tower is alone."""

    implementation = "diptych.models.absent:AbsentTower"
    present = False


def alone(tower: TowerConfig, embed_dim: int, **more: Any) -> ClipConfig:
    """The model that one tower is alone, whose vectors are `embed_dim` wide; `more`: other fields
    of the model. Raises ConfigError for what is neither an image tower nor a text tower.

    >>> from diptych.config.alone import alone
    >>> from diptych.families.clip import VitConfig
    >>> alone(VitConfig(), 768, projected=False).missing
    'text'
    """
    if isinstance(tower, ImageTowerConfig):
        return ClipConfig(image=tower, text=NoTextTower(), embed_dim=embed_dim, **more)
    if isinstance(tower, TextTowerConfig):
        return ClipConfig(image=NoImageTower(), text=tower, embed_dim=embed_dim, **more)
    raise ConfigError(f"a {type(tower).__name__} is neither an image tower nor a text tower")


def refusal(side: Side, name: str = "this model") -> str:
    """The sentence on the tower that isn't there, and on what does work without it.

    >>> from diptych.config.alone import refusal
    >>> refusal("image")
    'this model has no image tower, its text tower is alone: embed_texts gives vectors of texts'
    """
    return f"{name} has no {side} tower, {_LEFT[side]}"


def need(config: ClipConfig, side: Side, name: str = "this model") -> None:
    """Raises ConfigError unless the model, which is called `name`, has this tower.

    >>> from diptych import pretrained
    >>> from diptych.config.alone import need
    >>> need(pretrained.get("tiny"), "text")
    """
    if config.missing == side:
        raise ConfigError(refusal(side, name))
