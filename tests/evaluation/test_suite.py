"""Tasks x models: what is finished is kept, what fails is listed, processes agree."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import diptych
from diptych import pretrained
from diptych.distributed import Peers
from diptych.encoder import Encoder, features
from diptych.errors import ConfigError, UnknownNameError
from diptych.evaluation import Result, ResultKey, evaluate
from diptych.evaluation.engine import Engine
from diptych.evaluation.evaluate import By
from diptych.models import build
from tests import tiny
from tests.distributed.harness import run_processes


@pytest.fixture
def data(tmp_path):
    tiny.write_pictures(tmp_path / "data")
    return str(tmp_path / "data")


def test_every_model_on_every_task(data, tmp_path):
    encoders = {"one": tiny.encoder(0), "two": tiny.encoder(1)}
    results = diptych.evaluate(
        encoders, [data, "synthetic:16"], resize="both", out=tmp_path / "out"
    )
    assert len(results) == len(results.paths) == 2 * 2 * 2
    assert not results.failures
    for (task, model, resize), result in results.items():
        assert result.protocol["resize"] == resize
        assert result.model["name"] == model
        assert result.model["fingerprint"] == encoders[model].identity.fingerprint
        alone = diptych.evaluate(encoders[model], "zero-shot", task, resize=resize)
        assert result.metrics == alone.metrics
        assert Result.load(results.paths[ResultKey(task, model, resize)]) == result


def test_without_a_folder_nothing_is_written(data, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    results = evaluate([tiny.encoder(0), tiny.encoder(1)], f"{data},synthetic:16")
    assert [key.model for key in results] == ["tiny 0", "tiny 1"] * 2
    assert not results.paths
    assert not list((tmp_path / "here").iterdir())


def test_what_is_finished_is_kept_and_what_changed_is_measured_again(data, tmp_path, monkeypatch):
    lines = []
    options = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    first = evaluate(tiny.encoder(), data, **options)
    [path] = first.paths.values()
    before = path.read_text()
    monkeypatch.setattr(Engine, "measure", lambda *_: pytest.fail("nothing is to be done"))
    again = evaluate(tiny.encoder(), data, **options)
    assert again.kept == set(first)
    assert again.only() == first.only()
    assert again.only().per_sample.keys() == {"top1"}
    assert path.read_text() == before
    monkeypatch.undo()
    fewer = evaluate(
        tiny.encoder(),
        data,
        limit=4,
        out=tmp_path / "out",
        on_result=lambda *found: lines.append(found),
    )
    assert [*fewer] == [*first]
    assert not fewer.kept
    assert [*fewer.paths.values()] != [path]
    assert lines == [*fewer.items()]
    path.write_text("half a resu")
    assert not evaluate(tiny.encoder(), data, out=tmp_path / "out").kept
    assert Result.from_json(path.read_text())


def test_a_failing_task_stops_no_other(data, tmp_path):
    missing = str(tmp_path / "nothing")
    results = evaluate(tiny.encoder(), [missing, data])
    assert [(key.task, reason) for key, reason in results.failures.items()] == [
        (missing, f"{missing} doesn't exist")
    ]
    assert [key.task for key in results] == [data]
    assert str(results).splitlines()[-1] == (f"failed: tiny 0, {missing}: {missing} doesn't exist")
    with pytest.raises(KeyError, match="doesn't exist"):
        results[missing, "tiny 0", ""]
    with pytest.raises(ConfigError, match=r"there are 0 results for .*nothing, not one: .* exist"):
        results.only(task=missing)


def test_a_failing_model_stops_no_other(data):
    class Broken(Encoder):
        def image_features(self, pixels):
            raise torch.OutOfMemoryError("no memory is left")

    broken = Broken(tiny.model(1), name="broken")
    results = evaluate([broken, tiny.encoder()], data)
    assert [(key.model, reason) for key, reason in results.failures.items()] == [
        ("broken", "no memory is left")
    ]
    assert [key.model for key in results] == ["tiny 0"]


def test_a_model_given_twice_is_told(data):
    with pytest.raises(ConfigError, match="stands twice in tiny 0, tiny 0"):
        evaluate([tiny.encoder(), tiny.encoder()], data)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"tasks": "cifra10"},
            "no evaluation dataset or group is called 'cifra10'; did",
        ),
        ({"tasks": "linear/cifra10"}, "'cifar10'.*groups are eva27, .*vtab"),
        ({"tasks": "zero-shot"}, "zero-shot of what. give it data"),
        ({"profile": "open-ai"}, "did you mean 'openai'"),
        ({"resize": "stretch"}, "no resize is called 'stretch'"),
        ({"data": "photos", "out": "x"}, "out and predictions are for tasks"),
        ({"data": "photos"}, "cifar10 brings its own data; say where it lies by data_root"),
    ],
)
def test_a_request_that_does_not_fit_is_told_before_anything_is_computed(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        evaluate(tiny.encoder(), **({"tasks": "cifar10"} | options))


def test_both_shows_a_squashing_model_crops_too():
    extractors = Engine().extractors(tiny.encoder(), ("crop", "squash"))
    assert [extractor.preprocess.config.resize for extractor in extractors.values()] == [
        "shortest",
        "squash",
    ]
    assert len({extractor.key for extractor in extractors.values()}) == 2
    with pytest.raises(UnknownNameError, match="resize"):
        Engine().extractors(tiny.encoder(), ("stretch",))


def suite_as_one_of(peers: Peers, tasks: list[str], folder: str, by: By):
    features.ROWS = 5
    torch.manual_seed(0)
    encoder = Encoder(build(replace(pretrained.get("tiny"), token_dim=16)))
    options = {"out": Path(folder) / "out", "cache": Path(folder) / "cache", "by": by}
    results = evaluate(encoder, tasks, peers=peers, **options)
    names = [(key.task, path.name) for key, path in results.paths.items()]
    return names, list(results.failures.values())


@pytest.mark.parametrize("by", ["vectors", "tokens"])
def test_two_processes_equal_one(by, data, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "ROWS", 5)
    tasks = [data, str(tmp_path / "nothing")]
    alone = suite_as_one_of(Peers(), tasks, str(tmp_path / "one"), by)
    assert run_processes(2, suite_as_one_of, tasks, str(tmp_path / "two"), by) == [alone, alone]
    [(_, name)] = alone[0]
    one, two = (Result.load(tmp_path / which / "out" / name) for which in ("one", "two"))
    assert (one.metrics, one.confusion, one.key) == (two.metrics, two.confusion, two.key)
