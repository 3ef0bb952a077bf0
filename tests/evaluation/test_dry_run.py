"""The suite on miniature copies of the sets: every kind of set, every group."""

from dataclasses import replace

import pytest
import torch

from diptych import datasets
from diptych.batch import Sample
from diptych.cli import main
from diptych.datasets import Dataset, open_own
from diptych.datasets.class_names import Prompts
from diptych.datasets.layouts.base import Files
from diptych.distributed import Peers
from diptych.encoder import Cache, ImageFeatures
from diptych.errors import DataError
from diptych.evaluation import evaluate
from diptych.evaluation.engine import Engine
from diptych.evaluation.probes import score_few_shot, score_linear
from diptych.evaluation.scores import Inputs
from diptych.evaluation.tasks import Task, open_splits, parse_tasks
from tests import tiny
from tests.datasets import miniature


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The 27 sets, and one of each other kind."""
    root = tmp_path_factory.mktemp("sets")
    for entry in datasets.select(("eva27", "voc2007-multilabel", "flickr30k")):
        miniature.write(entry, root)
    miniature.write(datasets.get("cifar10"), root, split="train", count=240)
    return root


@pytest.mark.slow
def test_the_27_sets_and_other_kinds(root, tmp_path, monkeypatch):
    # All of their templates make 400,000 prompts.
    every = Prompts.templates_of
    monkeypatch.setattr(Prompts, "templates_of", lambda self, who: every(self, who)[:1])
    tasks = "eva27,voc2007-multilabel,retrieval"
    results = evaluate(tiny.encoder(), tasks, data_root=root, sizes="warn", cache=tmp_path)
    assert {key.task for key in results.failures} == {"coco", "flickr8k"}, results.failures
    assert len(results) == 27 + 2
    for key, result in results.items():
        assert result.protocol["metric"] in result.metrics
        assert result.data["name"] == key.task
        assert result.data["used"] == miniature.LIMIT
    kinds = {result.task for result in results.values()}
    assert kinds == {"zero-shot", "multilabel", "retrieval"}


def test_every_kind_of_set_is_measured(root, tmp_path):
    """One of each layout and task of the test above."""
    tasks = "cifar10,mnist,sun397,fer2013,imagenet-a,voc2007-multilabel,flickr30k"
    results = evaluate(tiny.encoder(), tasks, data_root=root, sizes="warn", cache=tmp_path)
    assert not results.failures
    assert {result.task for result in results.values()} == {"zero-shot", "multilabel", "retrieval"}


def test_a_probe_shares_the_vectors_of_zero_shot(root, tmp_path):
    tasks = ["cifar10", "linear/cifar10", "fewshot/cifar10"]
    results = evaluate(tiny.encoder(), tasks, data_root=root, sizes="warn", cache=tmp_path)
    assert not results.failures
    zero_shot, linear, few = results.values()
    assert (linear.task, few.task) == ("linear", "fewshot")
    assert few.metrics["top1_16_shot"] > few.metrics["top1_1_shot"] - 0.2
    assert few.intervals.keys() == few.metrics.keys()
    assert linear.metrics["top1"] > zero_shot.metrics["top1"]
    assert len(list((tmp_path / "images").iterdir())) == 2, "one for each split"


def opened(root, word):
    [task] = parse_tasks(word)
    return open_splits(task, data_root=root, sizes="warn")


def test_sets_that_shift_imagenets_pictures_are_asked_of_its_classifier(root):
    miniature.write(datasets.get("imagenet1k"), root, split="train", count=24)
    splits = opened(root, "linear/imagenet-a")
    assert (splits["test"].name, splits["train"].name) == ("imagenet-a", "imagenet1k")
    assert len(splits["test"].class_indices) == 200
    assert not opened(root, "linear/imagenet-v2")["test"].class_indices
    with pytest.raises(DataError, match="objectnet has classes of its own"):
        opened(root, "linear/objectnet")


def test_a_classifier_of_more_classes_is_asked_about_some_of_them():
    """Classes 3 and 1 of four, in that order; the picture of class 2 lies nearest to what the
    others aren't."""
    corners, labels = torch.eye(4).repeat(6, 1), torch.arange(4).repeat(6)
    learned = {
        "train": _pictures(corners, labels),
        "test": _pictures(torch.eye(4)[[3, 1]], torch.tensor([0, 1])),
    }
    own = open_own("synthetic:4", class_names=("third", "first"))
    [extractor] = Engine().extractors(tiny.encoder()).values()
    inputs = Inputs(
        dataset=replace(own, class_indices=(3, 1)),
        splits=learned,
        extractor=extractor,
        cache=Cache(),
        peers=Peers(),
    )
    assert score_few_shot(inputs).metrics["top1_2_shot"] == 1.0
    scores = score_linear(inputs)
    assert scores.metrics["top1"] == 1.0
    assert scores.confusion == ((1, 0), (0, 1))


def _pictures(features: torch.Tensor, labels: torch.Tensor) -> ImageFeatures:
    samples = [
        Sample(key=str(i), image=b"", label=label) for i, label in enumerate(labels.tolist())
    ]
    return ImageFeatures(rows=torch.arange(len(labels)), samples=samples, features=features, bad=[])


def test_a_profile_says_how_pictures_are_shown(root):
    options = {"data_root": root, "sizes": "warn", "profile": "eva-clip-18b"}
    results = evaluate(tiny.encoder(), "cifar10", **options)
    assert sorted(key.resize for key in results) == ["crop", "squash"]
    for result in results.values():
        assert result.protocol["profile"] == "eva-clip-18b"


def test_a_set_that_is_not_there_is_told_with_how_to_get_it(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "--data-root",
        str(root),
        "--tasks",
        "coco,cifar10",
        "--sizes",
        "warn",
        "--cache",
        "cache",
    ]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(tiny.save(tmp_path / "model")), "--device", "cpu", *words])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert "wds_mscoco_captions" in err
    assert err.count("isn't in") == 1
    assert "Traceback" not in err
    assert "cifar10" in out


def test_which_caption_fits(tmp_path):
    images = [miniature.png(n) for n in range(4)]
    samples = [
        Sample(
            key=f"{n // 2}/{n % 2}",
            image=images[n],
            captions=("a red cat", "a blue dog"),
            label=n % 2,
        )
        for n in range(4)
    ]
    source = Files(samples, "pairs", tmp_path)
    entry = datasets.get("winoground")
    dataset = Dataset(name=entry.name, kind=entry.kind, source=source, metric=entry.metric)
    task, [extractor] = (
        Task(name=entry.name, data=entry),
        Engine().extractors(tiny.encoder()).values(),
    )
    [result] = Engine().measure(task, {"test": dataset}, [extractor])
    encoder = tiny.encoder()
    scores = encoder.embed_images(images) @ encoder.embed_texts(["a red cat", "a blue dog"]).T
    text = [bool(s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]) for s in scores.unflatten(0, (2, 2))]
    image = [bool(s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1]) for s in scores.unflatten(0, (2, 2))]
    assert result.metrics["text"] == sum(text) / 2
    assert result.metrics["image"] == sum(image) / 2
    assert (
        result.metrics["choice"]
        == sum(bool(s[n % 2] > s[1 - n % 2]) for n, s in enumerate(scores)) / 4
    )
