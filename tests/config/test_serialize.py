import json
from dataclasses import replace

import pytest

from diptych.config import (
    ClipConfig,
    DataConfig,
    ModelConfig,
    Run,
    SiglipObjectiveConfig,
    TowerOptions,
)
from diptych.config.serialize import difference, from_dict, from_json, override, to_dict, to_json
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.timm import TimmConfig

CONFIGS = [
    Run(steps=3),
    Run(
        epochs=1.5,
        objective=SiglipObjectiveConfig(tile=8),
        data=DataConfig(path="a::b", weights=(1.0, 2.0)),
    ),
    Run(
        steps=1,
        model=ModelConfig(
            custom=ClipConfig(image=ResNetConfig(), text=TextConfig(), logit_bias=-10.0)
        ),
    ),
    ClipConfig(
        image=TimmConfig(name="x", options={"depths": [1, 2]}),
        text=HuggingFaceTextConfig(model_type="bert"),
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_written_is_read_back(config):
    assert from_json(type(config), to_json(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "many"}, "Run.steps is 'many'; it must be a whole number"),
        ({"stepz": 3}, "Run has no field 'stepz'"),
        ({"precision": "fp8"}, "it can be 'fp32', 'bf16', 'fp16'"),
        ({"objective": {"type": "Triplet"}}, "Run.objective is a Triplet: no objective is called"),
        ({"optim": {"betas": [0.9]}}, "Run.optim.betas has 1 values; it takes 2"),
        ({"steps": True}, "Run.steps is True"),
        ({"optim": {"lr": 10**310}}, "Run.optim.lr is too large a number"),
        ({"model": {"custom": {"embed_dim": 8}}}, "Run.model.custom lacks 'image'"),
    ],
)
def test_a_file_that_does_not_fit_says_where(change, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        from_dict(Run, to_dict(Run(steps=3)) | change)


@pytest.mark.parametrize("name", ["{}:X", "x:{}:X"])
def test_a_file_that_is_named_by_a_type_is_never_run(name, tmp_path):
    """A description lies beside weights that somebody offers; a file of code may lie there, too."""
    code = tmp_path / "payload.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    values = to_dict(Run(steps=3)) | {"objective": {"type": name.format(code)}}
    with pytest.raises(ConfigError, match="a saved type names a module, package.module:Class"):
        from_dict(Run, values)
    assert not (tmp_path / "ran").exists()


def test_not_json_is_said():
    with pytest.raises(ConfigError, match="not a saved Run"):
        from_json(Run, "{")


def test_an_override_reaches_deep_and_checks_limits():
    run = override(Run(steps=3), "model.image.freeze", True)
    assert run.model.image == TowerOptions(freeze=True)
    with pytest.raises(ConfigError, match="freeze: .* on a tower that isn't trained"):
        override(run, "model.image.layer_decay", 0.9)
    with pytest.raises(ConfigError, match="OptimConfig has no field 'learning_rate'"):
        override(run, "optim.learning_rate", 1.0)


def test_a_difference_names_paths():
    run = Run(steps=3)
    other = replace(run, objective=SiglipObjectiveConfig(), steps=4)
    found = difference(run, other)
    assert found["steps"] == (3, 4)
    assert found["objective.label_smoothing"] == (0.0, None)
    json.dumps(found)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Run(), "set --steps or --epochs"),
        (lambda: Run(steps=1, batch_size=1), "--batch-size 1"),
        (lambda: VitConfig(image_size=225), "image_size 225 is not a multiple of patch_size 32"),
        (lambda: VitConfig(stem_widths=(8, 8)), "must be 2"),
        (lambda: DataConfig(path="a", weights=(1.0, 1.0)), "2 numbers for 1 sources"),
    ],
)
def test_impossible_configurations_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
