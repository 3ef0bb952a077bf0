"""What is said of flags beside a recipe, whatever its objective."""

import pytest

from diptych import recipes
from diptych.cli.train import new_run
from diptych.errors import ConfigError

# Distillation's looks for the store that it reads teachers from.
NAMES = [name for name in recipes.names() if recipes.get(name).objective.alias != "distill"]


@pytest.mark.parametrize("name", NAMES)
def test_captions_of_ones_own_go_with_every_recipe_that_reads_captions(name):
    flags = ["--data.path", "mine.csv", "--data.caption-key", "words"]
    if recipes.get(name).objective.alias == "mim":
        with pytest.raises(ConfigError, match=r"--data\.caption-key has no effect"):
            new_run(name, flags)
    else:
        assert new_run(name, flags).data.caption_key == "words"
