"""EVA's image towers alone, as masked image modelling left them: the names of `eva` or timm's,
without a prefix.

https://github.com/baaivision/EVA: EVA-01/eva, EVA-02/asuka
"""

from collections.abc import Collection

from diptych.families.eva.layouts import tower as eva_tower
from diptych.families.eva.layouts.eva import tower_config
from diptych.weights.layout import Layout, refuse
from diptych.weights.mapping import Table


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names; what only the pretext task needs is noted."""
    return Table(
        rules=eva_tower.rules("", names),
        ignored=eva_tower.IGNORED,
        noted=("mask_token", "lm_head.*"),
    )


EVA_IMAGE = Layout(
    name="eva-image",
    image=("cls_token",),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    weight_files=(),
)
