"""Killed at random moments, again and again: the run ends with the same bits, and no junk is left.

DIPTYCH_KILLS=50 pytest tests/training/test_kills.py        50 alone, and 50 under torchrun
"""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from diptych.checkpoints.steps import checkpoints
from diptych.config import SaveConfig
from diptych.config.serialize import to_json
from diptych.training import read_metrics
from tests.training.runs import assert_same_bits, small_run

KILLS = int(os.environ.get("DIPTYCH_KILLS", "0"))
pytestmark = pytest.mark.skipif(not KILLS, reason="DIPTYCH_KILLS=50 runs it")

TRAIN = """
import sys
from pathlib import Path
from diptych.training import fit, load_run
fit(load_run(Path(sys.argv[1])), resume=True, progress=False)
"""
ALONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def prepared(out: Path) -> Path:
    """A run that saves at every step, so that about half of the kills come while it writes."""
    out.mkdir()
    run = small_run(out, steps=100 + 5 * KILLS, save=SaveConfig(every_steps=1, keep=2))
    (out / "run.json").write_text(to_json(run))
    return out


def kill_one(process: subprocess.Popen[bytes]) -> None:
    """The training process; under torchrun, any of its two."""
    children = psutil.Process(process.pid).children()
    victims = [child.pid for child in children if "-m" not in child.cmdline()] or [process.pid]
    os.kill(random.choice(victims), signal.SIGKILL)


def train(launcher: list[str], script: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*launcher, str(script), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("launcher", [ALONE, TWO], ids=["alone", "torchrun"])
def test_after_many_kills_the_run_is_the_uninterrupted_one(tmp_path, launcher):
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    whole = prepared(tmp_path / "whole")
    assert train(launcher, script, whole).wait() == 0
    out, rng, kills = prepared(tmp_path / "run"), random.Random(0), 0
    while kills < KILLS:
        began = len(checkpoints(out)) and checkpoints(out)[-1].name
        process = train(launcher, script, out)
        # Not before it trains again: the kills are for what it writes.
        while process.poll() is None and (
            not checkpoints(out) or checkpoints(out)[-1].name == began
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is not None:
            break
        kill_one(process)
        process.wait()
        kills += 1
    assert train(launcher, script, out).wait() == 0
    assert kills > KILLS // 2
    assert_same_bits(checkpoints(whole)[-1], checkpoints(out)[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = [row["step"] for row in read_metrics(out / "metrics.jsonl")]
    assert steps == [row["step"] for row in read_metrics(whole / "metrics.jsonl")]
    names = {path.relative_to(out).parts[0] for path in out.rglob("*")}
    assert names == {"checkpoints", "groups.json", "history.jsonl", "metrics.jsonl", "run.json"}
    assert len(list((out / "checkpoints").iterdir())) == 2
