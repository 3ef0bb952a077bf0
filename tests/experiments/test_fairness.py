"""What a comparison refuses, by name, and what everyone shares."""

import re
from dataclasses import replace

import pytest

from diptych import models, pretrained
from diptych.config import (
    AugmentConfig,
    DataConfig,
    DeclipObjectiveConfig,
    EvaluationConfig,
    FilipObjectiveConfig,
    ModelConfig,
    Run,
    SiglipObjectiveConfig,
    TowerOptions,
)
from diptych.config.serialize import override
from diptych.errors import ConfigError
from diptych.experiments import CompareConfig
from diptych.experiments.comparison.fairness import (
    check_fair,
    folder_of,
    slug,
    started_from,
    with_shared_towers,
)
from diptych.training.assemble import described
from diptych.weights import save_model

BASE = Run(
    model=ModelConfig(name="tiny"),
    data=DataConfig(path="synthetic:64"),
    evaluation=EvaluationConfig(path="synthetic:16"),
    batch_size=8,
    steps=10,
)


def check(other, differ=(), equal="samples"):
    check_fair({"one": BASE, "two": other}, CompareConfig(differ=differ, equal=equal))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 20),
        ("batch_size", 16),
        ("data.path", "synthetic:65"),
        ("data.share", 0.5),
        ("data.resample", True),
        ("evaluation.path", "synthetic:17"),
        ("evaluation.limit", 5),
    ],
)
def test_what_everyone_shares_may_differ_only_where_it_is_asked_for(path, value):
    other = override(BASE, path, value)
    flag = f"--{path.replace('_', '-')}"
    with pytest.raises(ConfigError, match=re.escape(f"'one' and 'two' differ in {flag}")) as said:
        check(other)
    assert str(said.value).endswith(f"--differ {path}")
    assert repr(value) in str(said.value)
    check(other, differ=(path,))
    check(other, differ=(path.partition(".")[0],))


def test_towers_are_compared_as_they_are_built():
    other = replace(BASE, model=ModelConfig(name="tiny-32"))
    with pytest.raises(ConfigError, match="differ in the model .*image"):
        check(other)
    check(other, differ=("model",))
    larger = replace(BASE, model=ModelConfig(name="tiny", image=TowerOptions(size=96)))
    with pytest.raises(ConfigError, match="image_size 48.*image_size 96"):
        check(larger)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, objective=SiglipObjectiveConfig()),
        replace(BASE, optim=replace(BASE.optim, lr=1e-4)),
        replace(BASE, data=replace(BASE.data, augment=AugmentConfig(flip=0.5))),
        replace(BASE, model=ModelConfig(name="tiny", image=TowerOptions(patch_dropout=0.5))),
        replace(BASE, model=ModelConfig(name="tiny", image=TowerOptions(init="runs/mim"))),
        replace(BASE, objective=SiglipObjectiveConfig(), seed=3, out="elsewhere"),
    ],
)
def test_ways_of_training_are_free(other):
    check(other)


def test_towers_that_come_with_weights_are_compared(tmp_path):
    for name in ("tiny", "tiny-32"):
        save_model(tmp_path / name, models.build(pretrained.get(name)))
    own, other = (
        replace(BASE, model=ModelConfig(init=str(tmp_path / name))) for name in ("tiny", "tiny-32")
    )
    check(own)
    with pytest.raises(ConfigError, match="differ in the model .*image"):
        check(other)
    check(other, differ=("model",))


def test_what_is_no_comparison_is_refused():
    for variants, message in (
        ({"one": BASE}, "two variants or more"),
        ({"one": BASE, "two": replace(BASE, seed=4)}, "'one' and 'two' are the same run"),
        ({"a b": BASE, "a/b": replace(BASE, precision="bf16")}, "would share a folder"),
        ({"-": BASE, "two": replace(BASE, precision="bf16")}, "a letter or a digit"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_fair(variants, CompareConfig())
    nothing = replace(BASE, evaluation=EvaluationConfig())
    with pytest.raises(ConfigError, match="--evaluation.path or --evaluation.pairs"):
        check(nothing)
    with pytest.raises(ConfigError, match="--differ batch_size has no effect"):
        check(replace(BASE, precision="bf16"), differ=("batch_size",))


def test_steps_follow_from_equal_compute():
    with pytest.raises(ConfigError, match="with --equal flops the steps follow"):
        check(replace(BASE, steps=20), equal="flops")


def test_everyone_gets_what_some_objectives_need_of_the_towers():
    variants = {
        "clip": BASE,
        "filip": replace(BASE, objective=FilipObjectiveConfig()),
        "declip": replace(BASE, objective=DeclipObjectiveConfig()),
        "siglip": replace(BASE, objective=SiglipObjectiveConfig()),
    }
    with pytest.raises(ConfigError, match="differ in the model"):
        check_fair(variants, CompareConfig())
    shared = with_shared_towers(variants)
    check_fair(shared, CompareConfig())
    models = {name: described(run) for name, run in shared.items()}
    for model in models.values():
        assert (model.text.vocab_size, model.token_dim) == (49409, 256)
    assert [model.logit_bias for model in models.values()] == [None, None, None, -10.0]
    assert models["clip"].logit_scale == described(BASE).logit_scale
    same = {"one": BASE, "two": replace(BASE, precision="bf16")}
    assert with_shared_towers(same) == same


def test_weights_are_found_by_their_run(tmp_path):
    (tmp_path / "run" / "checkpoints" / "step-00000010").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    assert folder_of(str(tmp_path / "run")) == tmp_path / "run"
    step = tmp_path / "run" / "checkpoints" / "step-00000010"
    assert folder_of(str(step)) == tmp_path / "run"
    assert folder_of(str(step / "model.safetensors")) == tmp_path / "run"
    assert folder_of("ViT-B-32.pt") is None
    model = ModelConfig(init="runs/a-{seed}", image=TowerOptions(init="runs/b"))
    assert started_from(replace(BASE, model=model)) == ["runs/a-0", "runs/b"]
    assert slug("clip 1/4") == "clip-1-4"
