"""What CLIP's weights don't say, from the published models of the same shapes.

Heads and the activation leave no trace in weights, nor do tokenizer and preprocessing. A width or
vocabulary that nobody published tells nothing of them and is refused.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    TextTowerConfig,
    TowerConfig,
)
from diptych.config.objective import CLIP_VOCABULARY
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.config import ResNetConfig, TextConfig, VitConfig
from diptych.families.clip.pretrained import entries
from diptych.weights.layout import GIVE_CONFIG

T = TypeVar("T", bound=TowerConfig)
_UNSEEN = {"heads", "head", "activation", "image_size", "context_length"}
"""Fields in which towers of the same shapes may differ, or that the shapes tell."""


def published(inferred: ClipConfig) -> tuple[ClipConfig, dict[str, Any]]:
    """`told`, which was inferred from shapes, with the heads that published models of these shapes
    have, and notes for the provenance on what is assumed.

    Raises CheckpointError for shapes or a vocabulary that no published model has.

    >>> from dataclasses import replace
    >>> from diptych import pretrained
    >>> from diptych.families.clip.published import published
    >>> huge = pretrained.get("vit-h-14")
    >>> config, notes = published(replace(huge, image=replace(huge.image, heads=20)))
    >>> config.image.heads, notes["assumed"]
    (16, "gelu, not quick_gelu; 16 heads in the image tower; 16 heads in the text tower; CLIP's \
preprocessing")
    """
    image, text = published_image(inferred.image), _published_text(inferred.text)
    assumed = [*_activation(image, text), *_heads(image, "image"), *_heads(text, "text")]
    notes = {"config": "shapes", "assumed": "; ".join([*assumed, "CLIP's preprocessing"])}
    return replace(inferred, image=image, text=text), notes


def published_tower(inferred: ImageTowerConfig) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """`published` of an image tower alone."""
    image = published_image(inferred)
    assumed = [*_activation(image), *_heads(image, "image")]
    return image, {"assumed": "; ".join(assumed)} if assumed else {}


def published_image(inferred: ImageTowerConfig) -> ImageTowerConfig:
    """An image tower of CLIP's kinds with the heads of the published one; others as they are."""
    if not isinstance(inferred, VitConfig | ResNetConfig):
        return inferred
    known = (entry.image for entry in entries())
    return replace(inferred, heads=_same(inferred, known, "image").heads)


def _published_text(inferred: TextTowerConfig) -> TextTowerConfig:
    if not isinstance(inferred, TextConfig):
        return inferred
    check_vocabulary(inferred)
    configs = (entry.config for entry in entries())
    known = (config.text for config in configs if isinstance(config, ClipConfig))
    return replace(inferred, heads=_same(inferred, known, "text").heads)


def check_vocabulary(text: TextTowerConfig) -> None:
    """Raises CheckpointError for a vocabulary that isn't that of CLIP's tokenizer."""
    if text.vocabulary not in (CLIP_VOCABULARY, None):
        raise CheckpointError(
            f"its vocabulary has {text.vocabulary} entries, and that of CLIP's tokenizer "
            f"{CLIP_VOCABULARY}: which tokenizer made its texts isn't known; {GIVE_CONFIG}"
        )


def _same(inferred: T, known: Iterable[TowerConfig], side: str) -> T:
    """The published tower of these shapes."""
    for tower in known:
        if isinstance(tower, type(inferred)) and difference(tower, inferred).keys() <= _UNSEEN:
            return tower
    seen = {n: v for n, v in difference(type(inferred)(), inferred).items() if n not in _UNSEEN}
    sizes = ", ".join(f"{name} {value}" for name, (_, value) in seen.items())
    raise CheckpointError(
        f"no published model has an {side} tower of {sizes}, so its heads and activation can't be "
        f"told; {GIVE_CONFIG}"
    )


def _activation(*towers: TowerConfig) -> list[str]:
    used = {t.activation for t in towers if isinstance(t, VitConfig | TextConfig)}
    others = {"gelu": "quick_gelu", "quick_gelu": "gelu"}
    return [f"{name}, not {others[name]}" for name in used]


def _heads(tower: TowerConfig, side: str) -> list[str]:
    seen = isinstance(tower, VitConfig | ResNetConfig | TextConfig)
    return [f"{tower.heads} heads in the {side} tower"] if seen else []
