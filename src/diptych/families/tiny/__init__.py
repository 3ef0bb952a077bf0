"""Small models of CLIP's kind for demonstrations and tests: minutes on a CPU."""

from diptych.families.base import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="tiny",
    pretrained="diptych.families.tiny.pretrained:entries",
    recipes=("diptych.families.tiny.recipes",),
)
