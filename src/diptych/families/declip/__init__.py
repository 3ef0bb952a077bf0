"""DeCLIP's family (Li et al. 2021, arXiv:2110.05208; Cui et al. 2022, arXiv:2203.05796): five
objectives on the same pairs, with CLIP's towers."""

from diptych.families.base import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="declip",
    pretrained="diptych.families.declip.pretrained:entries",
    recipes=("diptych.families.declip.recipes", "diptych.families.declip.recipes_published"),
    layouts="diptych.families.declip.layouts:layouts",
    objectives="diptych.families.declip.published_config:CONFIGS",
    upgrade="diptych.families.declip.upgrade:upgrade_objective",
)
