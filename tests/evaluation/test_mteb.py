"""Files that aren't mteb's."""

import json

import pytest

from diptych.errors import DataError
from diptych.evaluation import read_mteb

GOOD = {"task_name": "X", "mteb_version": "2", "scores": {"test": [{"main_score": 1.0}]}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        json.dumps(GOOD | {"scores": {}}),
        json.dumps(GOOD | {"scores": {"test": [{"hf_subset": "a", "accuracy": 1.0}]}}),
        json.dumps(GOOD | {"scores": [1]}),
        json.dumps(GOOD),
    ],
)
def test_another_file_is_one_sentence(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match="x.json: not a result of mteb"):
        read_mteb(tmp_path / "x.json")
