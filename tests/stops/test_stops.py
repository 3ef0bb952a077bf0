"""Every verb that writes or takes long, stopped in the middle, killed, and started twice at once:
it says so in one sentence, what was there is intact, and nothing half-written or running is left.

    pytest -m slow tests/stops                      every verb at a few moments
    DIPTYCH_STOPS=20 pytest -m slow tests/stops     at more
"""

import functools
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stops import trial
from tests.stops.trial import Ended, Moment
from tests.stops.verbs import VERBS, Verb, make_world

MOMENTS = int(os.environ.get("DIPTYCH_STOPS", "3"))
AGAIN = 75
WITHIN = 10.0
ORPHANED = 60.0
"""Seconds until workers of others' packages see that their parent was killed."""


def every(quick):
    """The verbs, all but one of them only with the slow tests; that one also at a single moment."""
    slow = [pytest.param(name, MOMENTS, marks=pytest.mark.slow, id=name) for name in VERBS]
    return pytest.mark.parametrize(("name", "count"), [(quick, 0), *slow])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """What a verb does that nobody stops: how it ended, and what it has written."""

    @functools.cache
    def run(name: str) -> tuple[Ended, dict[str, str]]:
        folder = prepared(VERBS[name], world, tmp_path_factory.mktemp(name) / "whole")
        ended = trial.end(trial.start(VERBS[name], world, folder), folder)
        assert ended.code in (0, 1), ended.errors
        return ended, trial.content(folder)

    return run


def prepared(verb: Verb, world: Path, folder: Path) -> Path:
    """The folder, as it is before the verb."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if verb.before is not None:
        verb.before(world, folder / verb.out)
    return folder


def moments(ended: Ended, count: int) -> Iterator[Moment]:
    """Before changes to files, and where there are few, between them. Of a count of 0 the moment
    before the last change, which gives the name."""
    if not count:
        yield Moment(change=ended.changes - 2)
    for number in range(count):
        share = (number + 0.5) / count
        if ended.changes:
            yield Moment(change=1 + int(share * ended.changes))
        if ended.changes < 4 or count > 3:
            yield Moment(seconds=max(0.05, share * ended.seconds))


def is_same(verb: Verb, found: dict[str, str], wanted: dict[str, str]) -> bool:
    """Of what goes on, the parts are compared: a run that was stopped has another checkpoint."""
    if verb.exact:
        return found == wanted
    parts, wanted_parts = ({Path(name).parts[:2] for name in each} for each in (found, wanted))
    return parts == wanted_parts


def check_nothing_running(ended: Ended, within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while trial.left_running(ended.session):
        assert time.monotonic() < deadline, trial.left_running(ended.session)
        time.sleep(0.1)


def check_nothing_left(folder: Path, ended: Ended) -> None:
    check_nothing_running(ended)
    assert not [name for name in trial.content(folder) if ".partial" in name]


@every("convert-open-clip")
@pytest.mark.parametrize(
    "signals",
    [
        pytest.param((signal.SIGTERM,), id="SIGTERM"),
        pytest.param((signal.SIGINT,), id="SIGINT", marks=pytest.mark.slow),
        pytest.param((signal.SIGINT,) * 2, id="SIGINT-twice", marks=pytest.mark.slow),
    ],
)
def test_a_stop_is_one_sentence_and_leaves_nothing(world, whole, tmp_path, name, count, signals):
    verb, (reference, wanted) = VERBS[name], whole(name)
    for moment in moments(reference, count):
        folder = prepared(verb, world, tmp_path / name)
        before = trial.content(folder)
        ended = trial.end(trial.start(verb, world, folder, moment, signals), folder)
        about = (moment, ended.code, ended.errors)
        assert ended.slow < WITHIN, about
        assert "Traceback" not in ended.errors, about
        check_nothing_running(ended)
        found = trial.content(folder)
        partial = {path for path in found if ".partial" in path}
        rest = [each for each in (folder / "tmp").iterdir() if each.name != ".ses"]
        at_once = len(signals) > 1  # by the second one, as by a kill
        assert at_once or not (partial or rest), about
        found = {path: digest for path, digest in found.items() if path not in partial}
        if ended.code == reference.code:  # it came too late
            assert is_same(verb, found, wanted), about
            continue
        assert ended.code in (128 + signals[0], AGAIN if name == "train" else 0), about
        assert at_once or len([said for said in ended.said if "stopped " in said]) == 1, about
        assert verb.goes_on or found == before or is_same(verb, found, wanted), (about, found)
        if verb.goes_on:
            check_again(verb, world, folder, wanted)


@every("convert-open-clip")
def test_the_next_one_removes_what_a_killed_one_left(world, whole, tmp_path, name, count):
    verb, (reference, wanted) = VERBS[name], whole(name)
    for moment in moments(reference, count):
        folder = prepared(verb, world, tmp_path / name)
        ended = trial.end(trial.start(verb, world, folder, moment, (signal.SIGKILL,)), folder)
        assert ended.code in (-signal.SIGKILL, reference.code)
        check_nothing_running(ended, within=ORPHANED)
        if verb.out in os.listdir(folder) and not verb.goes_on and verb.before is None:
            continue  # it was whole, and isn't written again
        check_again(verb, world, folder, wanted)


def check_again(verb: Verb, world: Path, folder: Path, wanted: dict[str, str]) -> None:
    """The same command does the rest; a run's, with --resume."""
    is_run = (folder / "out" / "run.json").exists()
    again = Verb("train --resume out", verb.out) if is_run else verb
    ended = trial.end(trial.start(again, world, folder), folder)
    assert ended.code in (0, 1), ended.errors
    check_nothing_left(folder, ended)
    assert is_same(verb, trial.content(folder), wanted), trial.content(folder)


@every("classify")
def test_two_at_once_work_or_one_says_why_not(world, whole, tmp_path, name, count):
    verb, (reference, wanted) = VERBS[name], whole(name)
    folder = prepared(verb, world, tmp_path / name)
    started = [trial.start(verb, world, folder, tag=str(number)) for number in range(2)]
    ends = [trial.end(process, folder) for process in started]
    assert reference.code in [ended.code for ended in ends], ends
    for ended in ends:
        assert ended.code in (reference.code, 2), ended.errors
        assert "Traceback" not in ended.errors
        assert ended.code != 2 or len(ended.said) == 1, ended.errors
        check_nothing_left(folder, ended)
    assert is_same(verb, trial.content(folder), wanted)
