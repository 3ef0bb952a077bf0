"""Clips by their middle frame, and by the mean of several."""

import io

import pytest
import torch
from PIL import Image

from diptych import datasets
from diptych.datasets.layouts.video import read_frames
from diptych.encoder import Encoder, class_vectors
from diptych.encoder.features import mean_of_frames
from diptych.evaluation import Result, evaluate
from tests import tiny
from tests.datasets import miniature, originals

pytest.importorskip("av")
CLIPS = {"abseiling/a.mp4": 20, "abseiling/b.mp4": 5, "air_drumming/c.avi": 1}
"""How many frames they have."""


@pytest.fixture
def root(tmp_path):
    for name, frames in CLIPS.items():
        originals.clip(tmp_path / "kinetics400/val" / name, frames)
    return tmp_path


def measure(root, task="kinetics400", **options) -> Result:
    return evaluate(tiny.encoder(), task, data_root=root, sizes="warn", **options).only()


@pytest.fixture
def no_more_pictures(monkeypatch):
    def forbid():
        monkeypatch.setattr(
            Encoder, "image_features", lambda *_: pytest.fail("all of it is in the cache")
        )

    return forbid


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_a_clips_score_is_the_mean_of_its_frames_scores(root, frames):
    found, encoder = measure(root, frames=frames), tiny.encoder()
    opened = datasets.open_set("kinetics400", root, sizes="warn")
    classes = class_vectors(encoder.embed_texts, opened.class_names, opened.templates)
    predicted, probable = [], []
    for name, count in CLIPS.items():
        pictures = read_frames(root / "kinetics400/val" / name, frames)
        assert len(pictures) == min(frames, count)
        vectors = encoder.embed_images([Image.open(io.BytesIO(each)) for each in pictures])
        scores = torch.stack([vector @ classes.T for vector in vectors]).mean(0)
        predicted.append(int(scores.argmax()))
        direction = torch.nn.functional.normalize(vectors.mean(0), dim=0) @ classes.T
        scale = encoder.model.logit_scale.exp().detach()
        probable.append(float((scale * direction).softmax(0).max()))
    right = [label == guess for label, guess in zip([0, 0, 1], predicted)]
    assert found.metrics["top1"] == pytest.approx(sum(right) / 3)
    assert found.metrics["mean_top1_top5"] == pytest.approx((sum(right) / 3 + 1) / 2)
    assert found.predictions.probability == pytest.approx(probable, abs=1e-5)
    assert found.protocol["frames"] == frames
    assert (found.data["samples"], found.data["used"]) == (3, 3), "clips are counted, not frames"
    assert found.data["remarks"][0] == "3 samples instead of 19,240"


def test_the_length_of_a_frames_vector_has_no_weight():
    frames = torch.tensor([[3.0, 4.0], [0.0, 100.0], [0.0, 1.0], [2.0, 0.0]])
    by_hand = torch.tensor([[0.2, 2.8 / 3], [1.0, 0.0]])
    torch.testing.assert_close(mean_of_frames(frames, [3, 1]), by_hand)


def test_one_picture_each_is_left_as_it_is():
    features = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float16)
    assert mean_of_frames(features, [1, 1]) is features


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_batch_may_be_smaller_than_a_clip(root, batch_size):
    few = measure(root, frames=8, batch_size=batch_size)
    assert few.predictions.probability == pytest.approx(
        measure(root, frames=8).predictions.probability, abs=1e-5
    )


def test_numbers_of_frames_share_neither_cache_nor_results(root, no_more_pictures):
    options = {"cache": root / "cache", "out": root / "out"}
    one, eight = measure(root, **options), measure(root, frames=8, **options)
    assert one.key != eight.key
    assert one.predictions.probability != eight.predictions.probability
    no_more_pictures()
    for frames, first in ((1, one), (8, eight)):
        kept = evaluate(
            tiny.encoder(), "kinetics400", data_root=root, sizes="warn", frames=frames, **options
        )
        assert kept.kept
        assert kept.only() == first
        cached = measure(root, frames=frames, cache=root / "cache")
        assert cached.predictions == first.predictions
    assert len(list((root / "out").glob("*.json"))) == 2


def test_pictures_of_a_clip_in_place_of_it_are_not_several_frames(tmp_path):
    miniature.write(datasets.get("ucf101"), tmp_path, layout="folders")
    options = {"data_root": tmp_path, "sizes": "warn"}
    assert evaluate(tiny.encoder(), "ucf101", **options).only().protocol["frames"] == 1
    [why] = evaluate(tiny.encoder(), "ucf101", frames=8, **options).failures.values()
    assert "is one picture a clip; --frames 8 needs the clips themselves: UCF101.rar" in why


def test_clips_beside_their_pictures_are_found(root):
    miniature.write(datasets.get("kinetics400"), root)
    assert measure(root).data["layout"] == "webdataset"
    assert measure(root, frames=8).data["layout"] == "clips"


def test_sets_of_pictures_beside_clips_stay_as_they_are(root):
    miniature.write(datasets.get("cifar10"), root)
    results = evaluate(
        tiny.encoder(), "cifar10,kinetics400", data_root=root, sizes="warn", frames=8
    )
    alone = measure(root, "cifar10")
    assert "frames" not in alone.protocol
    assert results["cifar10", "tiny 0", "crop"].key == alone.key
    assert results["kinetics400", "tiny 0", "crop"].protocol["frames"] == 8
