"""Templates that turn a class name into captions, under names."""

from collections.abc import Sequence

from diptych.datasets.imagenet_templates import EIGHTY
from diptych.errors import UnknownNameError

_SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""What a forward search over ImageNet's eighty ended with; github.com/openai/CLIP, MIT licence."""
TEMPLATES: dict[str, tuple[str, ...]] = {
    "name": ("{}",),
    "simple": ("a photo of a {}.",),
    "openai-7": _SEVEN,
    # DeCLIP's, by their number; github.com/Sense-GVT/DeCLIP, prototype/data/datasets/prompts.
    "declip-1": ("a photo of a {}.",),
    "declip-6": (
        "a photo of a {}.",
        "a photo of a big {}.",
        "a photo of a small {}.",
        "a {} on the photo.",
        "a big {} on the photo.",
        "a small {} on the photo.",
    ),
    "declip-8": ("a photo of a {}", *_SEVEN),
    "declip-80": EIGHTY,
}


def templates(choice: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of that name; a sequence of templates, or a single one, stands for itself.

    Raises UnknownNameError for a word that is neither a name nor a template.

    >>> from diptych.datasets import templates
    >>> templates("simple"), templates("a sketch of a {}.")
    (('a photo of a {}.',), ('a sketch of a {}.',))
    """
    if not isinstance(choice, str):
        return tuple(choice)
    if choice in TEMPLATES:
        return TEMPLATES[choice]
    if "{}" in choice:
        return (choice,)
    raise UnknownNameError("set of templates", choice, TEMPLATES)
