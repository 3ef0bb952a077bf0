"""run.json of older versions is read as today's."""

import json
from dataclasses import replace

import pytest

from diptych.config import ModelConfig, TowerOptions
from diptych.config.serialize import to_dict, to_json
from diptych.errors import ConfigError
from diptych.training import load_run
from tests.training.runs import MODEL, small_run


def older(run, knobs):
    """As it was written when training knobs were part of towers' configurations."""
    values = json.loads(to_json(run))
    for side in ("image", "text"):
        for name in ("patch_dropout", "stochastic_depth"):
            del values["model"][side][name]
    del values["data"]["source"]
    values["model"]["name"] = "vit-b-32"
    if values["model"]["custom"]:
        values["model"]["custom"]["image"] |= knobs
    return values


def write(folder, values):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(values))
    return folder


def test_knobs_of_a_configuration_become_options_of_its_run(tmp_path):
    run = small_run(tmp_path, model=ModelConfig(custom=MODEL))
    found = load_run(write(tmp_path / "run", older(run, {"patch_dropout": 0.25})))
    image = TowerOptions(patch_dropout=0.25)
    assert found == replace(run, model=replace(run.model, image=image))


def test_knobs_of_a_named_model_stand_in_its_checkpoint(tmp_path):
    run = small_run(tmp_path, model=ModelConfig(name="vit-b-32"))
    folder = write(tmp_path / "run", older(run, {}))
    step = folder / "checkpoints" / "step-00000004"
    step.mkdir(parents=True)
    config = to_dict(MODEL)
    config["image"]["stochastic_depth"] = 0.4
    (step / "model.json").write_text(json.dumps({"config": config}))
    image = TowerOptions(stochastic_depth=0.4)
    assert load_run(folder) == replace(run, model=replace(run.model, image=image))


def test_todays_is_read_as_it_is(tmp_path):
    run = small_run(tmp_path)
    assert load_run(write(tmp_path / "run", json.loads(to_json(run)))) == run


@pytest.mark.parametrize(
    ("text", "says"), [("{", "is no saved Run"), ("[]", "holds a list"), ("{}", "steps")]
)
def test_what_is_no_run_is_said(tmp_path, text, says):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_run(tmp_path)
