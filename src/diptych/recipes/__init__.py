"""Complete experiments: functions that return a Run. The docstring is the command, the hardware,
the expected result.

    run = recipes.get("tiny-digits")
    run = replace(run, steps=100)

A recipe's name on the command line is its function's, with dashes. None imports torch.
"""

import inspect
from collections.abc import Callable

from diptych.config import Run
from diptych.errors import UnknownNameError
from diptych.recipes.cifar10 import tiny_cifar10
from diptych.recipes.clip import (
    clip_rn50,
    clip_vit_b_16,
    clip_vit_b_32,
    clip_vit_l_14,
    lit_vit_b_32,
    siglip_vit_b_16,
)
from diptych.recipes.declip import (
    clip_rn50_yfcc15m,
    clip_vit_b_32_yfcc15m,
    declip_rn50_88m,
    declip_rn50_yfcc15m,
    declip_vit_b_32_88m,
    declip_vit_b_32_yfcc15m,
    defilip_vit_b_32_yfcc15m,
    filip_rn50_yfcc15m,
    filip_vit_b_32_yfcc15m,
    slip_rn50_yfcc15m,
    slip_vit_b_32_yfcc15m,
)
from diptych.recipes.declip_published import (
    clip_rn50_yfcc15m_as_published,
    clip_vit_b_32_yfcc15m_as_published,
    declip_rn50_88m_as_published,
    declip_rn50_yfcc15m_as_published,
    declip_vit_b_32_88m_as_published,
    declip_vit_b_32_yfcc15m_as_published,
    defilip_vit_b_32_yfcc15m_as_published,
    filip_rn50_yfcc15m_as_published,
    filip_vit_b_32_yfcc15m_as_published,
    slip_rn50_yfcc15m_as_published,
    slip_vit_b_32_yfcc15m_as_published,
)
from diptych.recipes.digits import tiny_digits
from diptych.recipes.unireplknet import clip_unireplknet_l_laion2b, clip_unireplknet_l_laion2b_320

__all__ = [
    "clip_rn50",
    "clip_rn50_yfcc15m",
    "clip_rn50_yfcc15m_as_published",
    "clip_unireplknet_l_laion2b",
    "clip_unireplknet_l_laion2b_320",
    "clip_vit_b_16",
    "clip_vit_b_32",
    "clip_vit_b_32_yfcc15m",
    "clip_vit_b_32_yfcc15m_as_published",
    "clip_vit_l_14",
    "declip_rn50_88m",
    "declip_rn50_88m_as_published",
    "declip_rn50_yfcc15m",
    "declip_rn50_yfcc15m_as_published",
    "declip_vit_b_32_88m",
    "declip_vit_b_32_88m_as_published",
    "declip_vit_b_32_yfcc15m",
    "declip_vit_b_32_yfcc15m_as_published",
    "defilip_vit_b_32_yfcc15m",
    "defilip_vit_b_32_yfcc15m_as_published",
    "describe",
    "filip_rn50_yfcc15m",
    "filip_rn50_yfcc15m_as_published",
    "filip_vit_b_32_yfcc15m",
    "filip_vit_b_32_yfcc15m_as_published",
    "get",
    "lit_vit_b_32",
    "names",
    "siglip_vit_b_16",
    "slip_rn50_yfcc15m",
    "slip_rn50_yfcc15m_as_published",
    "slip_vit_b_32_yfcc15m",
    "slip_vit_b_32_yfcc15m_as_published",
    "tiny_cifar10",
    "tiny_digits",
]

_RECIPES: dict[str, Callable[[], Run]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        tiny_digits,
        tiny_cifar10,
        clip_vit_b_32,
        clip_vit_b_16,
        clip_vit_l_14,
        clip_rn50,
        siglip_vit_b_16,
        lit_vit_b_32,
        clip_unireplknet_l_laion2b,
        clip_unireplknet_l_laion2b_320,
        clip_vit_b_32_yfcc15m,
        clip_rn50_yfcc15m,
        slip_vit_b_32_yfcc15m,
        slip_rn50_yfcc15m,
        filip_vit_b_32_yfcc15m,
        filip_rn50_yfcc15m,
        declip_vit_b_32_yfcc15m,
        declip_rn50_yfcc15m,
        defilip_vit_b_32_yfcc15m,
        declip_vit_b_32_88m,
        declip_rn50_88m,
        clip_vit_b_32_yfcc15m_as_published,
        clip_rn50_yfcc15m_as_published,
        slip_vit_b_32_yfcc15m_as_published,
        slip_rn50_yfcc15m_as_published,
        filip_vit_b_32_yfcc15m_as_published,
        filip_rn50_yfcc15m_as_published,
        declip_vit_b_32_yfcc15m_as_published,
        declip_rn50_yfcc15m_as_published,
        defilip_vit_b_32_yfcc15m_as_published,
        declip_vit_b_32_88m_as_published,
        declip_rn50_88m_as_published,
    )
}


def names() -> list[str]:
    """All recipes, small ones first.

    >>> from diptych import recipes
    >>> recipes.names()[:2]
    ['tiny-digits', 'tiny-cifar10']
    """
    return list(_RECIPES)


def get(name: str) -> Run:
    """The Run of that name; dashes and underscores are the same. Raises UnknownNameError with near
    misses.

    >>> from diptych import recipes
    >>> recipes.get("clip_vit_b_32").model.name
    'vit-b-32'
    """
    return _find(name)()


def describe(name: str) -> str:
    """What the recipe does: its docstring. Raises UnknownNameError with near misses.

    >>> from diptych import recipes
    >>> recipes.describe("tiny-digits").splitlines()[0]
    'The run of `diptych demo`: coloured handwritten digits, from nothing, on two CPU cores.'
    """
    return inspect.getdoc(_find(name)) or ""


def _find(name: str) -> Callable[[], Run]:
    key = name.lower().replace("_", "-")
    if key not in _RECIPES:
        raise UnknownNameError("recipe", name, _RECIPES)
    return _RECIPES[key]
