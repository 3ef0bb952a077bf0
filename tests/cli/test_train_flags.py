"""What is said of flags beside a recipe, whatever its objective."""

import pytest

from diptych import recipes
from diptych.cli.train import new_run
from diptych.errors import ConfigError

# Distillation's looks for the store that it reads teachers from.
NAMES = [name for name in recipes.names() if recipes.get(name).objective.alias != "distill"]


OF_EACH_OBJECTIVE = {recipes.get(name).objective.alias: name for name in NAMES}.values()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in OF_EACH_OBJECTIVE else pytest.mark.slow)
        for name in NAMES
    ],
)
def test_captions_of_ones_own_go_with_every_recipe_that_reads_captions(name):
    flags = ["--data.path", "mine.csv", "--data.caption-key", "words"]
    if recipes.get(name).objective.alias == "mim":
        with pytest.raises(ConfigError, match=r"--data\.caption-key has no effect"):
            new_run(name, flags)
    else:
        assert new_run(name, flags).data.caption_key == "words"
