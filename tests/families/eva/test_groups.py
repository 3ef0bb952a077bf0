"""Which parameters get which learning rate and weight decay, as EVA-CLIP's code recorded it."""

import pytest

from diptych.config import ModelConfig, OptimConfig, Run, TowerOptions
from diptych.distributed import Peers
from diptych.families.clip.layouts import open_clip_config
from diptych.families.eva.layouts import eva
from diptych.optim import group_records
from diptych.training.assemble import assemble
from tests import goldens

RECORDED = goldens.read(goldens.FOLDER / "eva/eva-optim-preprocess.json")
MODEL = open_clip_config.from_json(
    {"model_cfg": goldens.read(goldens.FOLDER / "eva/eva02-b-tiny.json")["config"]}
)


def options(arguments, side):
    decay = arguments[f"{side}_ld"]
    return TowerOptions(
        lr=arguments[f"{side}_lr"],
        weight_decay=arguments[f"{side}_wd"],
        layer_decay=1.0 if decay is None else decay,
    )


@pytest.mark.parametrize("case", ["plain", "tower_decay"])
def test_rates_and_decays_are_the_recorded_ones(case):
    recorded, arguments = RECORDED[case]["params"], RECORDED[case]["args"]
    run = Run(
        model=ModelConfig(
            custom=MODEL, image=options(arguments, "visual"), text=options(arguments, "text")
        ),
        optim=OptimConfig(lr=arguments["lr"], weight_decay=arguments["wd"]),
        steps=1,
    )
    state, _, _ = assemble(run, Peers())
    table, found = eva.export_table(MODEL.image), {}
    for group in group_records(state.groups, run.optim.lr):
        for name in group["names"]:
            for foreign in table.foreign_names(name.removeprefix("model.")):
                found[foreign] = (group["lr"], group["weight_decay"])
    assert len(recorded) == 101
    assert found.keys() == recorded.keys()
    for name, expected in recorded.items():
        lr, decay = found[name]
        assert lr == pytest.approx(expected["lr"] * expected["lr_scale"], rel=1e-12), name
        assert decay == expected["weight_decay"], name
