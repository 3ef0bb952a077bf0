"""A run on the samples of a file of ids: it goes on exactly, and with the same ids alone."""

import json
from dataclasses import replace

import pytest

from diptych.config import DataConfig, SaveConfig
from diptych.errors import ConfigError
from diptych.training import fit
from tests.training.runs import assert_same_bits, small_run

pytestmark = pytest.mark.filterwarnings("ignore:.*keeps .* samples:diptych.errors.DataWarning")


@pytest.fixture
def write(tmp_path):
    def ids(name, numbers):
        (tmp_path / name).write_text("".join(f"{number}\n" for number in numbers))
        return str(tmp_path / name)

    return ids


def run_with(tmp_path, out, keep, **changes):
    data = DataConfig(
        path="synthetic:20",
        keep=keep,
        keep_field="__key__" if keep else "uid",
        workers=0,
        cache=str(tmp_path / "cache"),
    )
    save = SaveConfig(every_steps=3, keep=2)
    return small_run(tmp_path / out, data=data, steps=6, save=save, **changes)


def order_of(checkpoint):
    return json.loads((checkpoint / "training.json").read_text())["order"]


def test_it_goes_on_exactly_with_the_same_ids_wherever_they_lie(tmp_path, write):
    whole = fit(run_with(tmp_path, "whole", write("a.txt", range(3, 14))), progress=False)
    part = run_with(tmp_path, "part", write("a.txt", range(3, 14)))
    fit(replace(part, steps=3), progress=False)
    moved = run_with(tmp_path, "part", write("b.txt", reversed(range(3, 14))))
    assert_same_bits(fit(moved, resume=True, progress=False), whole)


def test_other_ids_are_refused_and_so_are_none(tmp_path, write):
    ids = write("a.txt", range(3, 14))
    fit(run_with(tmp_path, "run", ids), progress=False)
    fit(run_with(tmp_path, "all", ""), progress=False)
    for out, keep, says in (
        ("run", write("b.txt", range(3, 15)), r"b.txt \(__key__\) has other ids than the run had"),
        ("run", "", "--data.keep is empty, and the run had the samples of a file of ids"),
        ("all", ids, "a.txt leaves samples out, and the run had all"),
    ):
        run = replace(run_with(tmp_path, out, keep), steps=9)
        with pytest.raises(ConfigError, match=rf"{says}: go on with the same, or start another"):
            fit(run, resume=True, progress=False)


def test_a_run_on_all_samples_keeps_the_state_that_it_had(tmp_path, write):
    [kept, all_] = (
        fit(replace(run_with(tmp_path, out, keep), steps=3), progress=False)
        for out, keep in (("run", write("a.txt", range(9))), ("all", ""))
    )
    assert order_of(kept).keys() == {"sizes", "weights", "resample", "keep"}
    assert order_of(all_).keys() == {"sizes", "weights", "resample"}
