"""Tasks x models: what is finished is kept, what fails is listed, processes agree."""

from pathlib import Path

import pytest
import torch

from diptych.datasets import open_own
from diptych.distributed import Peers
from diptych.encoder import Cache, Encoder, pictures
from diptych.errors import ConfigError
from diptych.evaluation import Result, evaluate
from diptych.evaluation.measure import Engine, Task, views_of
from diptych.evaluation.suite import run_suite
from tests import tiny
from tests.distributed.harness import run_processes


def open_task(name: str) -> Task:
    return Task(name=name, subjects={"test": open_own(name)})


@pytest.fixture
def data(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    return str(tmp_path / "data")


def test_every_model_on_every_task(data, tmp_path):
    encoders = [tiny.encoder(0), tiny.encoder(1)]
    summary = run_suite(
        encoders, [data, "synthetic:16"], open_task, tmp_path / "out", resizes=("crop", "squash")
    )
    assert len(summary.results) == 2 * 2 * 2
    assert not summary.failures
    for job, path in summary.results.items():
        result = Result.from_json(path.read_text())
        encoder = encoders[job.model == "tiny 1"]
        assert result.protocol["resize"] == job.resize
        assert result.metrics == evaluate(encoder, "zero-shot", job.task, resize=job.resize).metrics
        assert result.model["fingerprint"] == encoder.identity.fingerprint


def test_what_is_finished_is_kept_and_what_changed_is_measured_again(data, tmp_path, monkeypatch):
    cache, told = Cache(tmp_path / "cache"), []
    first = run_suite(
        [tiny.encoder()], [data], open_task, tmp_path / "out", engine=Engine(cache=cache)
    )
    [path] = first.results.values()
    before = path.read_text()
    monkeypatch.setattr(Engine, "measure", lambda *_: pytest.fail("nothing is to be done"))
    again = run_suite(
        [tiny.encoder()], [data], open_task, tmp_path / "out", engine=Engine(cache=cache)
    )
    assert again.kept == set(first.results)
    assert path.read_text() == before
    monkeypatch.undo()
    fewer = run_suite(
        [tiny.encoder()],
        [data],
        open_task,
        tmp_path / "out",
        engine=Engine(limit=4),
        tell=told.append,
    )
    assert fewer.results.keys() == first.results.keys()
    assert not fewer.kept
    assert [*fewer.results.values()] != [path]
    assert "top1" in told[0]
    path.write_text("half a resu")
    assert not run_suite(
        [tiny.encoder()], [data], open_task, tmp_path / "out", engine=Engine(cache=cache)
    ).kept
    assert Result.from_json(path.read_text())


def test_a_failing_task_stops_no_other(data, tmp_path):
    told = []
    tasks = [str(tmp_path / "nothing"), data]
    summary = run_suite([tiny.encoder()], tasks, open_task, tmp_path / "out", tell=told.append)
    assert [(job.task, reason) for job, reason in summary.failures.items()] == [
        (tasks[0], f"{tasks[0]} doesn't exist (data.path)")
    ]
    assert [job.task for job in summary.results] == [data]
    assert len(told) == 2


def test_a_failing_model_stops_no_other(data, tmp_path):
    class Broken(Encoder):
        def image_features(self, pixels):
            raise torch.OutOfMemoryError("no memory is left")

    broken = Broken(tiny.model(1), name="broken")
    summary = run_suite([broken, tiny.encoder()], [data], open_task, tmp_path / "out")
    assert [(job.model, reason) for job, reason in summary.failures.items()] == [
        ("broken", "no memory is left")
    ]
    assert [job.model for job in summary.results] == ["tiny 0"]


def test_a_model_given_twice_is_told(data, tmp_path):
    with pytest.raises(ConfigError, match="stands twice in tiny 0, tiny 0"):
        run_suite([tiny.encoder(), tiny.encoder()], [data], open_task, tmp_path)


def test_both_shows_a_squashing_model_crops_too():
    views = views_of(tiny.encoder(), ("crop", "squash"))
    assert [view.preprocess.config.resize for view in views.values()] == ["shortest", "squash"]
    assert len({view.key for view in views.values()}) == 2
    with pytest.raises(ConfigError, match="resize"):
        views_of(tiny.encoder(), ("stretch",))


def suite_as_one_of(peers: Peers, tasks: list[str], folder: str):
    pictures.ROWS = 5
    engine = Engine(cache=Cache(Path(folder) / "cache"), peers=peers)
    summary = run_suite([tiny.encoder()], tasks, open_task, Path(folder) / "out", engine=engine)
    return [(job.task, path.name) for job, path in summary.results.items()], list(
        summary.failures.values()
    )


def test_two_processes_equal_one(data, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "ROWS", 5)
    tasks = [data, str(tmp_path / "nothing")]
    alone = suite_as_one_of(Peers(), tasks, str(tmp_path / "one"))
    assert run_processes(2, suite_as_one_of, tasks, str(tmp_path / "two")) == [alone, alone]
    [(_, name)] = alone[0]
    one, two = (
        Result.from_json((tmp_path / which / "out" / name).read_text()) for which in ("one", "two")
    )
    assert (one.metrics, one.confusion, one.key) == (two.metrics, two.confusion, two.key)
