"""The jobs for Slurm of docs/slurm.md, in a world with an `srun` that only starts things."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diptych.checkpoints.steps import checkpoints

ROOT = Path(__file__).parents[2]
JOBS = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs/slurm.md").read_text(), re.S)
TOOLS = {
    "srun": """while [[ $1 == --* ]]; do [[ $2 =~ ^[0-9]+$ ]] && shift; shift; done
echo $$ > $WORLD/task; exec "$@" """,
    "scontrol": 'if [ $1 = requeue ]; then echo "$@" >> $WORLD/requeued; else echo localhost; fi',
    "scancel": "kill -TERM $(cat $WORLD/task)",
    "diptych": f'exec {sys.executable} -m diptych "$@"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
}
SHORT = "--steps 24 --save.every-steps 0 --track.every-steps 1"
CHANGES = {
    "clip-vit-b-32": "tests.training.runs:small",
    "--data.path 'shards/{0000..9999}.tar'": SHORT,
    "/shared/clip": "$WORLD/run",
    "--nproc-per-node 8": "--nproc-per-node 2",
    "--rdzv-backend c10d": "--rdzv-backend c10d --rdzv-id 1",
    "$HOST:29500": "localhost:0",
}


@pytest.fixture
def world(tmp_path):
    for name, text in TOOLS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(world, job):
    for old, new in CHANGES.items():
        job = job.replace(old, new)
    (world / "job.sh").write_text(job)
    environment = os.environ | {
        "PATH": f"{world}:{os.environ['PATH']}",
        "WORLD": str(world),
        "SLURM_JOB_ID": "7",
        "SLURM_NNODES": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(["bash", str(world / "job.sh")], cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    "job", [JOBS[0], pytest.param(JOBS[1], marks=pytest.mark.slow)], ids=["alone", "torchrun"]
)
def test_a_job_whose_time_is_over_goes_on_in_the_next(world, job):
    process = start(world, job)
    metrics, deadline = world / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Slurm signals the tasks, or with B: the batch script.
    is_batch = "--signal=B:" in job
    os.kill(process.pid if is_batch else int((world / "task").read_text()), signal.SIGUSR1)
    code = process.wait(60)
    assert code == 75 or is_batch
    assert (world / "requeued").read_text() == "requeue 7\n"
    reached = int(checkpoints(world / "run")[-1].name.removeprefix("step-"))
    assert 0 < reached < 24
    assert start(world, job).wait(180) == 0
    assert checkpoints(world / "run")[-1].name == "step-00000024"
    assert (world / "requeued").read_text() == "requeue 7\n"
