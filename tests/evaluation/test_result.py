"""Results survive their file."""

import json

import numpy as np
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


OLD = """{
  "task": "zero-shot", "metrics": {"top1": 0.5}, "protocol": {"metric": "top1"},
  "data": {"used": 2, "unusable": 1,
           "unusable_samples": [{"file": "f", "key": "k", "reason": "r"}]},
  "model": {"name": "m"}, "class_names": ["a"], "per_class": [0.5], "versions": {},
  "intervals": {"top1": [0.1, 0.9]}, "calibration": {}, "key": "0",
  "date": "2026-01-01T00:00:00+00:00",
  "mistakes": [{"key": "k", "true": "a", "taken_for": "a", "confidence": 0.5, "jpeg": ""}],
  "confusion": [[2]]
}"""


def test_a_file_that_an_earlier_version_wrote_is_read(tmp_path):
    (tmp_path / "a.json").write_text(OLD)
    steps, digest = np.array([0, 1]), np.array("0" * 64)
    np.savez_compressed(tmp_path / "a.top1.npz", ranks=[0, 1], steps=steps, keys=digest)
    result = Result.load(tmp_path / "a.json")
    assert result.data["unusable"] == 1
    assert result.mistakes[0]["taken_for"] == "a"
    assert result.per_sample["top1"].correct().tolist() == [True, False]
    assert result.per_sample["top1"].clusters.tolist() == [0, 1]
    assert json.loads(result.to_json()) == json.loads(OLD)


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


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"confusion": [[1, -1], [0, 0]]}, "fewer than no pictures"),
        ({"per_class": [1.5, None]}, "aren't between 0 and 1"),
        ({"class_names": ["a"]}, "different numbers of classes"),
        ({"metrics": {}}, "no metrics"),
        ({"metrics": {"top1": float("nan")}}, "NaN is no number"),
        ({"data": {"used": 10**400}}, "a number of 401 digits"),
    ],
)
def test_what_cant_be_said_of_classes_is_refused(changed, cause):
    values = json.loads(RESULT.to_json()) | changed
    with pytest.raises(DataError, match=cause):
        Result.from_json(json.dumps(values))
