"""A run on a mixture: it goes on exactly, each source where it was, and says what it sees of
each."""

import json
import shutil
from dataclasses import replace

import pytest

from diptych.checkpoints.steps import CHECKSUMS, PROGRESS, write_checksums
from diptych.config import DataConfig
from diptych.errors import ConfigError, DataWarning
from diptych.training import fit
from tests.training.runs import assert_same_bits, small_run

MIXED = DataConfig(path="synthetic:20::synthetic:7", weights=(2.0, 1.0), workers=0)


def order_in(folder):
    return json.loads((folder / PROGRESS).read_text())["order"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Twelve batches of eight: 64 of the first source, 32 of the second, in the middle of epochs;
    saved at steps 8 and 12."""
    return fit(small_run(tmp_path_factory.mktemp("run") / "run", data=MIXED), progress=False)


@pytest.fixture
def halted(tmp_path, done):
    shutil.copytree(done.parent.parent, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000012")
    return small_run(tmp_path / "run", data=MIXED)


def test_it_goes_on_bit_for_bit(halted, done):
    again = fit(halted, resume=True, progress=False)
    assert_same_bits(again, done)
    assert order_in(again) == order_in(done)


def test_with_other_weights_and_another_batch_each_source_goes_on(halted, capsys):
    """Eight batches of 8 took 5.33 and 2.67 of each, 42 or 43 in all."""
    other = replace(halted, data=replace(MIXED, weights=(1.0, 1.0)), batch_size=6, steps=9)
    order = order_in(fit(other, resume=True))
    first, second = order["dealt"]["taken"]
    assert (first + second, order["dealt"]["step"], order["dealt"]["batch_size"]) == (64, 8, 6)
    assert abs(first - 128 / 3) < 1.5
    said = capsys.readouterr().err
    assert "data.weights 2.0 1.0 -> 1.0 1.0" in said
    assert "may come twice" not in said
    assert "source 1, synthetic:20: 20 samples, 50 % of every batch (3 of 6), 2.3 epochs" in said


def test_a_mixture_that_an_older_version_dealt_is_refused(halted, tmp_path):
    folder = tmp_path / "run" / "checkpoints" / "step-00000008"
    progress = json.loads((folder / PROGRESS).read_text())
    del progress["order"]["dealt"]
    (folder / PROGRESS).write_text(json.dumps(progress))
    (folder / CHECKSUMS).unlink()
    write_checksums(folder)
    with pytest.raises(ConfigError, match="dealt over 65,536 samples .* --model.init"):
        fit(halted, resume=True, progress=False)


def test_without_a_mixture_checkpoints_say_what_they_said(tmp_path):
    path = "synthetic:20::synthetic:7"
    run = small_run(tmp_path / "run", data=DataConfig(path=path, workers=0), steps=1)
    assert order_in(fit(run, progress=False)) == {
        "sizes": [27],
        "weights": [1.0],
        "resample": False,
    }


def test_starved_sources_are_said_before_the_first_step_or_refused(tmp_path):
    run = small_run(tmp_path / "run", data=replace(MIXED, weights=(1.0, 0.004)), steps=100)
    with pytest.raises(DataWarning, match="source 2, synthetic:7 is starved"):
        fit(run, progress=False)
    with pytest.raises(ConfigError, match="source 2, synthetic:7 .* gives no sample in 2 steps"):
        fit(replace(run, steps=2), progress=False)
    assert not (tmp_path / "run").exists()
