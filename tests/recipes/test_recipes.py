import math
import subprocess
import sys

import pytest

from diptych import pretrained, recipes
from diptych.config import SiglipObjectiveConfig
from diptych.config.run import Run
from diptych.config.serialize import from_json, to_json
from diptych.errors import UnknownNameError
from diptych.optim import learning_rate


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_a_complete_run(name):
    run = recipes.get(name)
    assert run.recipe == name
    assert run.data.path
    assert run.model.custom or pretrained.entry(run.model.name)
    assert from_json(Run, to_json(run)) == run


@pytest.mark.parametrize("name", recipes.names())
def test_every_docstring_has_command_hardware_and_expectation(name):
    text = recipes.describe(name)
    assert f"train {name}" in text or "diptych demo" in text
    assert "Hardware:" in text
    assert "Expected:" in text


def test_out_folders_differ():
    runs = [recipes.get(name).out for name in recipes.names()]
    assert len(set(runs)) == len(runs)


def test_near_misses_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'clip-vit-b-32'"):
        recipes.get("clip-vit-b32")


def test_siglip_has_a_bias_and_lit_a_frozen_image_tower():
    siglip = recipes.get("siglip-vit-b-16")
    assert isinstance(siglip.objective, SiglipObjectiveConfig)
    adapted = siglip.objective.adapt(pretrained.get(siglip.model.name))
    assert (adapted.logit_bias, adapted.logit_scale) == (-10, math.log(10))
    assert recipes.get("lit-vit-b-32").model.image.freeze


def test_two_stages_of_the_large_kernel_model_are_one_training():
    """The card's numbers: 256 intervals of 45,646,078 samples, the last 64 at 320 pixels."""
    first, second = (
        recipes.get("clip-unireplknet-l-laion2b"),
        recipes.get("clip-unireplknet-l-laion2b-320"),
    )
    assert first.steps + second.steps == 153_600
    assert first.steps / second.steps == 192 / 64
    assert abs(first.batch_size * 600 / 45_646_078 - 1) < 0.01
    assert second.model.init == first.out
    assert (
        pretrained.get(first.model.name).image.image_size,
        second.model.custom.image.image_size,
    ) == (
        224,
        320,
    )
    end, start = (
        learning_rate(first.optim, first.steps, first.steps),
        learning_rate(second.optim, 0, second.steps),
    )
    assert end == pytest.approx(start)
    assert start == pytest.approx(5e-4 * (1 + math.cos(math.pi * 105_200 / 143_600)) / 2)


def test_digits_are_never_flipped():
    assert recipes.get("tiny-digits").data.augment.flip == 0


def test_a_recipe_registers_itself_once():
    assert len(recipes.names()) == len(set(recipes.names())) == 53
    assert recipes.get("diptych.families.clip.recipes:clip_rn50") == recipes.get("clip-rn50")


def test_recipes_need_no_torch():
    code = (
        "import sys; from diptych import recipes; recipes.get('clip-rn50'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
