"""The published averages follow from the published parts."""

from statistics import mean

import pytest

from diptych import datasets, pretrained


def values(model, names, metric=None, resize=None, frames=1):
    rows = [row for name in names for row in datasets.published(model=model, name=name)]
    return [
        row.value
        for row in rows
        if metric in (None, row.metric) and resize in (None, row.resize) and row.frames == frames
    ]


def grouped(model, group, resize, metric=None):
    """The group's published mean, and the mean of its sets' published figures."""
    sets = values(model, datasets.GROUPS[group], metric, resize)
    return mean(sets), values(model, (group,), resize=resize)[0], len(sets)


@pytest.mark.parametrize(
    ("model", "resize"), [("EVA-CLIP-18B", "squash"), ("EVA01-CLIP-g-14", "crop")]
)
def test_mean_recall_is_the_mean_of_twelve(model, resize):
    recalls, stands, count = grouped(model, "eva-retrieval2", resize)
    assert count == 12
    assert recalls == pytest.approx(stands, abs=0.05)


def test_of_crops_the_paper_prints_another_mean_recall_than_that_of_its_recalls():
    recalls, stands, count = grouped("EVA-CLIP-18B", "eva-retrieval2", "crop")
    assert (count, stands) == (12, 86.7)
    assert recalls == pytest.approx(87.27, abs=0.005)
    assert "87.27" in datasets.published(model="EVA-CLIP-18B")[0].note


@pytest.mark.parametrize(
    ("resize", "stands"), [("crop", 80.437), ("squash", 80.385), ("best", 80.719)]
)
def test_eva_18bs_means_of_27_sets_follow_from_its_table_14(resize, stands):
    found, printed, count = grouped("EVA-CLIP-18B", "eva27", resize, "top1")
    assert count == 27
    assert found == pytest.approx(stands, abs=0.0005)
    assert printed == pytest.approx(stands, abs=0.05)


@pytest.mark.parametrize(
    ("model", "stands"), [("EVA-CLIP-8B", 79.4), ("EVA02-CLIP-bigE-14-plus", 78.7)]
)
def test_so_do_those_of_smaller_models_of_its_table_2(model, stands):
    found, printed, count = grouped(model, "eva27", "best", "top1")
    assert (count, printed) == (27, stands)
    assert found == pytest.approx(stands, abs=0.06)


def test_of_crop_and_squash_the_better_one_counts_set_by_set():
    for name in (*datasets.GROUPS["eva27"], *datasets.GROUPS["eva-video4"]):
        best, crop, squash = (
            values("EVA-CLIP-18B", (name,), resize=each)[0] for each in ("best", "crop", "squash")
        )
        assert best == max(crop, squash), name


@pytest.mark.parametrize(
    ("model", "resize"),
    [
        *(("EVA-CLIP-18B", resize) for resize in ("best", "crop", "squash")),
        *(("EVA02-CLIP-bigE-14-plus", ""), ("EVA01-CLIP-g-14", "crop")),
    ],
)
def test_the_video_average_mixes_top1_with_means_of_top1_and_top5(model, resize):
    kinetics = values(model, datasets.GROUPS["eva-video4"][1:], "mean_top1_top5", resize)
    stands = values(model, ("eva-video4",), resize=resize or "best")[0]
    assert mean([*values(model, ("ucf101",), "top1", resize), *kinetics]) == pytest.approx(
        stands, abs=0.06
    )


@pytest.mark.parametrize(
    ("frames", "resize", "stands"),
    [(8, "best", 79.7), (8, "crop", 79.7), (8, "squash", 79.6), (16, "best", 79.8)],
)
def test_so_does_that_of_several_frames(frames, resize, stands):
    ucf, *kinetics = datasets.GROUPS["eva-video4"]
    sets = values("EVA-CLIP-18B", kinetics, "mean_top1_top5", resize, frames)
    sets += values("EVA-CLIP-18B", (ucf,), "top1", resize, frames)
    assert values("EVA-CLIP-18B", ("eva-video4",), "mean", resize, frames) == [stands]
    assert mean(sets) == pytest.approx(stands, abs=0.051)


@pytest.mark.parametrize(
    "name",
    [
        *("eva-clip-18b", "EVA_CLIP_18B", "BAAI/EVA-CLIP-18B", "hf-hub:BAAI/EVA-CLIP-18B"),
        *("/w/EVA_CLIP_18B_psz14_s6B.fp16.pt", "/w/EVA-CLIP-18B"),
        "/hub/models--BAAI--EVA-CLIP-18B/snapshots/1a2b/model.safetensors",
    ],
)
def test_a_model_goes_by_any_name_and_by_its_file(name):
    assert values(name, ("eva27",)) == [80.7, 80.44, 80.39]


@pytest.mark.parametrize(
    "name",
    [
        # The positions of another model's file, resized: where its training started.
        *("/w/EVA02_CLIP_L_psz14_224to336.pt", "/w/mine.pt", "os:system", "runs/mine", ""),
        *("/w/EVA_CLIP_18B.py:X", "/w/eva-clip-18b/checkpoints/step-9"),
    ],
)
def test_what_was_never_published_has_nothing_on_record(name):
    assert pretrained.identify(name) is None


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
    known = {*datasets.names(), *datasets.GROUPS}
    for row in datasets.published():
        assert row.name in known
        assert row.source
        assert row.profile in datasets.profiles()
        assert 0 < row.value <= 100
