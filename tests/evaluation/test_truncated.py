"""Prompts and captions beyond the context are said, and stand in the result."""

import pytest

from diptych.encoder import Cache
from diptych.errors import TruncationWarning
from diptych.evaluation import evaluate
from tests import tiny

LONG = "a photo of a {}, " + "seen on a very long walk " * 20


@pytest.fixture
def folder(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    return tmp_path / "data"


def test_prompts_beyond_the_context_are_a_warning_and_a_remark(folder, tmp_path):
    names, context = len(tiny.COLOURS), tiny.encoder().config.text.context_length
    expected = f"{names} of {2 * names} texts are longer than the context of {context} tokens"
    for _ in range(2):  # the second time, the vectors come from the cache
        with pytest.warns(TruncationWarning, match=expected):
            result = evaluate(
                tiny.encoder(),
                "zero-shot",
                folder,
                templates=["a {}", LONG],
                cache=Cache(tmp_path / "cache"),
            )
        [remark] = result.data["remarks"]
        assert expected in remark
        assert "the first is 'a photo of a " in remark


def test_short_prompts_are_no_remark(folder):
    assert evaluate(tiny.encoder(), "zero-shot", folder, templates=["a {}"]).data["remarks"] == []
