"""`python -m benchmarks.gpu`: what fails in it shows, and without a GPU all of it is rehearsed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.part import run
from benchmarks.gpu.setting import Row, Setting, captions, error_of, lengths_of, within

SETTING = Setting(device=torch.device("cpu"), toy=True)


def test_a_check_that_raises_is_a_row_and_not_the_end():
    def broken(setting: Setting) -> Iterator[Row]:
        yield {"name": "before"}
        raise ValueError("no such number")

    def whole(setting: Setting) -> Iterator[Row]:
        yield within("after", 0.5, 0.1)

    before, failed, after = run([broken, whole], SETTING)
    assert before == {"name": "before"}
    assert (failed["name"], failed["failed"]) == ("broken", "ValueError: no such number")
    assert after["ok"] is False
    assert [command.is_wrong(row) for row in (before, failed, after)] == [False, True, True]


def test_a_number_that_is_none_is_an_error():
    nan = torch.tensor([float("nan")])
    assert within("gone", error_of(nan, torch.ones(1)), 1e9)["ok"] is False
    assert within("gone", float("nan"), 1e9)["ok"] is False


def test_captions_end_with_the_highest_id_and_zeros_follow():
    ids = captions(64)
    ends = ids.argmax(dim=1)
    assert (ids[torch.arange(64), ends] == 49407).all()
    assert lengths_of(ids).host == tuple((ends + 1).tolist())
    assert (torch.arange(77) > ends[:, None]).equal(ids == 0)
    assert 9 <= float(ends.float().median()) <= 15


@pytest.mark.parametrize(
    ("seconds", "why"), [(60.0, "ended with 1"), (0.01, "cut off")], ids=["broken", "too long"]
)
def test_a_part_that_breaks_down_or_takes_too_long_is_a_failure(
    tmp_path, monkeypatch, seconds, why
):
    monkeypatch.setattr(command, "PARTS", {"no_such_part": seconds})
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    [row] = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert why in row["failed"]


@pytest.mark.slow
@pytest.mark.parametrize("part", command.PARTS)
def test_every_part_runs_without_a_gpu(part, tmp_path):
    """Small, and all that it finds is right."""
    words = f"-m benchmarks.gpu --parts {part} --out {tmp_path} --seconds 3600 --limit 100"
    done = subprocess.run(
        [sys.executable, *words.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert rows
    assert {row["skipped"] for row in rows if "skipped" in row} <= {"needs CUDA"}
