"""The published averages follow from the published parts."""

from statistics import mean

import pytest

from diptych import datasets


def values(model, names, metric=None, resize=None):
    rows = [row for name in names for row in datasets.published(model=model, name=name)]
    return [
        row.value for row in rows if metric in (None, row.metric) and resize in (None, row.resize)
    ]


@pytest.mark.parametrize(("model", "stands"), [("EVA-CLIP-18B", 87.8), ("EVA01-CLIP-g-14", 80.85)])
def test_mean_recall_is_the_mean_of_twelve(model, stands):
    recalls = values(model, ("flickr30k", "coco"))
    assert len(recalls) == 12
    assert mean(recalls) == pytest.approx(stands, abs=0.05)
    assert stands in values(model, ("mr",))


def test_of_crop_and_squash_the_better_one_counts_set_by_set():
    for name in ("objectnet", "voc2007"):
        best, crop, squash = (
            values("EVA-CLIP-18B", (name,), resize=each)[0] for each in ("best", "crop", "squash")
        )
        assert best == max(crop, squash) > min(crop, squash)
    best, crop, squash = (
        values("EVA-CLIP-18B", ("eva27",), resize=each)[0] for each in ("best", "crop", "squash")
    )
    assert best > max(crop, squash)  # which a mean of one of them couldn't be


@pytest.mark.parametrize(
    ("model", "stands"),
    [("EVA-CLIP-18B", 75.0), ("EVA02-CLIP-bigE-14-plus", 72.1), ("EVA01-CLIP-g-14", 66.0)],
)
def test_the_video_average_mixes_top1_with_means_of_top1_and_top5(model, stands):
    kinetics = values(model, datasets.GROUPS["eva-video4"][1:], metric="mean_top1_top5")
    assert mean([*values(model, ("ucf101",), metric="top1"), *kinetics]) == pytest.approx(
        stands, abs=0.05
    )
    assert stands in values(model, ("eva-video4",))


def test_kinetics_scores_are_means_of_top1_and_top5():
    for name in datasets.GROUPS["eva-video4"][1:]:
        one, five, both = (
            values("EVA01-CLIP-g-14", (name,), metric=metric)[0]
            for metric in ("top1", "top5", "mean_top1_top5")
        )
        assert both == pytest.approx((one + five) / 2, abs=0.011)


def test_the_27_sets_average_is_plain_top1():
    scores = values("EVA01-CLIP-g-14", datasets.GROUPS["eva27"], metric="top1")
    assert len(scores) == 27
    assert mean(scores) == pytest.approx(71.43, abs=0.005)


def test_every_row_names_a_set_its_source_and_a_profile():
    known = {*datasets.names(), *datasets.GROUPS, "mr"}
    for row in datasets.published():
        assert row.name in known
        assert row.source
        assert row.profile in datasets.profiles()
        assert 0 < row.value <= 100
