"""The spellings of the authors of this family: the snippet on the card of its CLIP model runs after
one import line.

    from diptych.compat.unireplknet import unireplknet_l

What differs, and why, stands in docs/compat.md.
"""

from diptych.families.unireplknet.classifier import (
    Classifier,
    unireplknet_a,
    unireplknet_b,
    unireplknet_f,
    unireplknet_l,
    unireplknet_n,
    unireplknet_p,
    unireplknet_s,
    unireplknet_t,
    unireplknet_xl,
)

__all__ = [
    "Classifier",
    "unireplknet_a",
    "unireplknet_b",
    "unireplknet_f",
    "unireplknet_l",
    "unireplknet_n",
    "unireplknet_p",
    "unireplknet_s",
    "unireplknet_t",
    "unireplknet_xl",
]
