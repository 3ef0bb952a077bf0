"""Verbs that share their work among processes, of which one is lost, or all are stopped: all end,
one says why, and the same command goes on alone."""

import signal
from pathlib import Path

import pytest

from diptych.encoder.embedder import Embedder
from tests.distributed.test_lost import WITHIN, ends, start
from tests.stalls import hang_in_a_call, hang_in_python
from tests.stops import trial
from tests.stops.verbs import VERBS, make_world

pytestmark = pytest.mark.slow
SHARED = ["embed", "evaluate-many", "reinforce"]


def in_a_tower(hang):
    """With its first pictures."""
    real = Embedder.image_features

    def image_features(self, pixels):
        hang()
        return real(self, pixels)

    Embedder.image_features = image_features


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def words(name: str, world: Path) -> list[str]:
    few = "" if name == "reinforce" else " --batch-size 4"
    return (VERBS[name].command + few).replace("WORLD", str(world)).split()


def check_it_goes_on(name: str, world: Path, folder: Path) -> None:
    ended = trial.end(trial.start(VERBS[name], world, folder), folder)
    assert ended.code == 0, ended.errors
    assert not [path for path in trial.content(folder) if ".partial" in path]


@pytest.mark.parametrize(("name", "lost"), [*((name, 0) for name in SHARED), ("embed", 1)])
@pytest.mark.parametrize("hang", [hang_in_python, hang_in_a_call])
def test_a_lost_process_ends_both(world, tmp_path, name, lost, hang):
    processes = start(tmp_path, 2, {lost: in_a_tower}, hang, words(name, world))
    processes[lost].wait_until_it_hangs()
    processes[lost].signal(signal.SIGKILL)
    codes, said, seconds = ends(processes)
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] not in (0, -signal.SIGKILL)
    assert len([line for line in said if f"the loss of rank {lost}" in line]) == 1, said
    assert not [line for line in said if not line.startswith("diptych:")], said
    assert seconds < WITHIN
    check_it_goes_on(name, world, tmp_path)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_both_is_one_sentence(world, tmp_path, name, number):
    processes = start(tmp_path, 2, {0: in_a_tower}, hang_in_a_call, words(name, world))
    processes[0].wait_until_it_hangs()
    for process in processes:
        process.signal(number)
    codes, said, seconds = ends(processes)
    assert codes[1] == 128 + number
    assert codes[0] in (128 + number, 1)  # or of the other's loss, where that is seen before
    assert len(said) == 1, said
    assert said[0].startswith(f"diptych: stopped by {number.name}"), said
    assert seconds < WITHIN
    check_it_goes_on(name, world, tmp_path)
