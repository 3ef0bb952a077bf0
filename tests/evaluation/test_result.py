"""Results survive their file."""

import json

import pytest

from diptych.errors import DataError
from diptych.evaluation import Result

RESULT = Result(
    task="zero-shot",
    metrics={"top1": 2 / 3},
    protocol={"templates": ["a {}"]},
    data={"path": "x", "used": 3},
    model={"name": "m"},
    class_names=("ä", "b"),
    per_class=(0.5, None),
    confusion=((1, 1), (0, 0)),
)


def test_the_file_gives_the_result_back(tmp_path):
    path = RESULT.save(tmp_path / "new" / "result.json")
    assert Result.from_json(path.read_text()) == RESULT
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_it_says_versions_and_date():
    values = json.loads(RESULT.to_json())
    assert {"python", "diptych", "torch"} <= values["versions"].keys()
    assert values["date"].endswith("+00:00")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"task": 1, "class_names": [], "per_class": [], "confusion": []}']
)
def test_other_files_are_refused(text):
    with pytest.raises(DataError, match="not a result"):
        Result.from_json(text)
