"""The suite on miniature copies of the sets: every kind of set, every group."""

import pytest

from diptych.batch import Sample
from diptych.cli import main
from diptych.encoder import Cache
from diptych.evaluation import Result, sets
from diptych.evaluation.measure import Engine, Task, views_of
from diptych.evaluation.sets.layouts.base import Files
from diptych.evaluation.subject import Subject
from diptych.evaluation.suite import run_suite
from diptych.evaluation.tasks import Requests, expand
from tests import tiny
from tests.evaluation.sets import miniature


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The 27 sets, and one of each other kind."""
    root = tmp_path_factory.mktemp("sets")
    for entry in sets.select(("eva27", "voc2007-multilabel", "flickr30k")):
        miniature.write(entry, root)
    miniature.write(sets.get("cifar10"), root, split="train", count=240)
    return root


def requests(root, **more) -> Requests:
    return Requests(data_root=str(root), sizes="warn", **more)


def test_the_27_sets_and_other_kinds(root, tmp_path):
    tasks = expand(["eva27", "voc2007-multilabel", "retrieval"])
    engine = Engine(cache=Cache(tmp_path / "cache"))
    summary = run_suite([tiny.encoder()], tasks, requests(root).open, tmp_path / "out", engine=engine)
    assert {job.task for job in summary.failures} == {"coco", "flickr8k"}, summary.failures
    assert len(summary.results) == 27 + 2
    for job, path in summary.results.items():
        result = Result.from_json(path.read_text())
        assert result.protocol["metric"] in result.metrics
        assert result.data["name"] == job.task
        assert result.data["used"] == miniature.LIMIT
    kinds = {Result.from_json(path.read_text()).task for path in summary.results.values()}
    assert kinds == {"zero-shot", "multilabel", "retrieval"}


def test_a_probe_shares_the_vectors_of_zero_shot(root, tmp_path):
    engine = Engine(cache=Cache(tmp_path / "cache"))
    tasks = ["cifar10", "linear/cifar10", "fewshot/cifar10"]
    summary = run_suite([tiny.encoder()], tasks, requests(root).open, tmp_path / "out", engine=engine)
    assert not summary.failures
    zero_shot, linear, few = (Result.from_json(path.read_text()) for path in summary.results.values())
    assert (linear.task, few.task) == ("linear", "fewshot")
    assert few.metrics["top1_16_shot"] > few.metrics["top1_1_shot"] - 0.2
    assert few.intervals.keys() == few.metrics.keys()
    assert linear.metrics["top1"] > zero_shot.metrics["top1"]
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 2, "one for each split"


def test_a_profile_says_how_pictures_are_shown(root, tmp_path):
    opening = requests(root, profile="eva-clip-18b").open
    summary = run_suite([tiny.encoder()], ["cifar10"], opening, tmp_path / "out")
    assert sorted(job.resize for job in summary.results) == ["crop", "squash"]
    for path in summary.results.values():
        assert Result.from_json(path.read_text()).protocol["profile"] == "eva-clip-18b"


def test_a_set_that_is_not_there_is_told_with_how_to_get_it(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--data-root", str(root), "--tasks", "coco,cifar10", "--sizes", "warn", "--cache", "cache"]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(tiny.save(tmp_path / "model")), "--device", "cpu", *words])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert "wds_mscoco_captions" in err
    assert "Traceback" not in err
    assert "cifar10" in out


def test_which_caption_fits(tmp_path):
    images = [miniature.png(n) for n in range(4)]
    samples = [
        Sample(key=f"{n // 2}/{n % 2}", image=images[n], captions=("a red cat", "a blue dog"), label=n % 2)
        for n in range(4)
    ]
    source = Files(samples, "pairs", tmp_path)
    entry = sets.get("winoground")
    subject = Subject(name=entry.name, kind=entry.task, source=source, metric=entry.metric)
    [result] = Engine().measure(Task(name=entry.name, subjects={"test": subject}), [*views_of(tiny.encoder()).values()])
    encoder = tiny.encoder()
    scores = encoder.embed_images(images) @ encoder.embed_texts(["a red cat", "a blue dog"]).T
    text = [bool(s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]) for s in scores.unflatten(0, (2, 2))]
    image = [bool(s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1]) for s in scores.unflatten(0, (2, 2))]
    assert result.metrics["text"] == sum(text) / 2
    assert result.metrics["image"] == sum(image) / 2
    assert result.metrics["choice"] == sum(bool(s[n % 2] > s[1 - n % 2]) for n, s in enumerate(scores)) / 4
