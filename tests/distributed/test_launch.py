"""What the variables of launchers say, alone and together."""

import pytest

from diptych.distributed import connect, started_as
from diptych.errors import ConfigError

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
NAMES = (
    *TORCHRUN,
    "LOCAL_RANK",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
)


@pytest.fixture
def variables(monkeypatch):
    def put(given):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("given", "is_started_as"),
    [
        ({}, (0, 1)),
        (TORCHRUN, (1, 2)),
        ({"WORLD_SIZE": "1"}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}, (0, 1)),
        ({"SLURM_NTASKS": "1"}, (0, 1)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"}, (0, 1)),
        (TORCHRUN | {"SLURM_NTASKS": "2"}, (1, 2)),
    ],
    ids=str,
)
def test_processes_are_understood(variables, given, is_started_as):
    variables(given)
    assert started_as() == is_started_as


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"SLURM_NTASKS": "2"}, "Slurm started 2 tasks, which don't know of each other"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "1"}, "Slurm started 4 tasks"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "MPI started 2 tasks"),
        ({"PMI_SIZE": "3"}, "MPI started 3 tasks"),
        ({"RANK": "0"}, "RANK say.* WORLD_SIZE and MASTER_ADDR and MASTER_PORT must be set"),
        ({"WORLD_SIZE": "2"}, "RANK and MASTER_ADDR and MASTER_PORT must be set, too"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR and MASTER_PORT must be set, too"),
        (TORCHRUN | {"RANK": "one"}, "the variable RANK must be a number, not 'one'"),
        (TORCHRUN | {"WORLD_SIZE": "2.5"}, "WORLD_SIZE must be a number"),
        (TORCHRUN | {"MASTER_PORT": "http"}, "MASTER_PORT must be a number"),
        (TORCHRUN | {"RANK": "2"}, "RANK 2 must lie in"),
        (TORCHRUN | {"RANK": "-1"}, "RANK -1 must lie in"),
    ],
    ids=str,
)
def test_processes_that_cannot_meet_are_refused(variables, given, says):
    variables(given)
    with pytest.raises(ConfigError, match=says), connect("cpu"):
        pass
