"""Names of template sets."""

import pytest

from diptych.datasets import TEMPLATES, templates
from diptych.errors import UnknownNameError


def test_every_template_has_a_place_for_the_name():
    assert len(TEMPLATES["openai-7"]) == 7
    assert all(template.count("{}") == 1 for group in TEMPLATES.values() for template in group)


def test_a_typo_gets_a_near_miss():
    with pytest.raises(UnknownNameError, match="did you mean 'openai-7'"):
        templates("openai7")
