"""Manifests: several sources of shards in one file."""

import json
from dataclasses import replace

import pytest

from diptych.compat.open_clip_train import data_manifest, params
from diptych.compat.open_clip_train.data_flags import data_of
from diptych.compat.open_clip_train.parse import parse
from diptych.config import DataConfig
from diptych.errors import ConfigError

SOURCES = [
    {"name": "a", "shards": "a/{0..1}.tar", "samples": 100, "sampling_weight": 2.0},
    {"name": "b", "shards": ["b/0.tar"], "samples": 50, "sampling_weight": 0.5},
]
SHARDS, WEIGHTS = ["a/0.tar", "a/1.tar", "b/0.tar"], [1.0, 1.0, 0.25]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "mix.json").write_text(json.dumps({"version": 1, "sources": SOURCES}))
    return str(tmp_path / "mix.json")


def words(path, *more):
    return ["--train-data", path, "--dataset-type", "webdataset", *more]


def test_a_manifest_is_shards_weights_and_a_number_of_samples(path):
    assert data_manifest.looks_like_manifest(path)
    found = data_manifest.load_manifest(path)
    assert data_manifest.resolve_manifest(found) == (SHARDS, WEIGHTS, 150)
    shares = [{**each, "mixture_fraction": 0.5} for each in SOURCES]
    mixed = {"version": 1, "weight_mode": "mixture_fraction", "sources": shares}
    # A weight times its samples is a share: those of the smaller source are twice as heavy.
    assert data_manifest.resolve_manifest(mixed)[1] == [0.5, 0.5, 1.0]
    for other in ("a/{0..1}.tar", "a.tar::b.tar", ["a.tar"], "missing.json"):
        assert not data_manifest.looks_like_manifest(other)


def test_arguments_have_its_shards_and_what_they_say_wins(path):
    args = params.parse_args(words(path))
    assert (args.train_data, args.train_data_upsampling_factors) == (SHARDS, None)
    assert args.train_num_samples == 150
    drawn = ["--dataset-resampled"]
    assert params.parse_args(words(path, *drawn)).train_data_upsampling_factors == WEIGHTS
    for said in ("5::1", "5::5::1"):
        given = [*drawn, "--train-data-upsampling-factors", said, "--train-num-samples", "9"]
        args = params.parse_args(words(path, *given))
        assert args.train_data_upsampling_factors == [5.0, 5.0, 1.0]
        assert args.train_num_samples == 9
    for said, more, message in (
        ("5::1", [], "needs --dataset-resampled"),
        ("5::5::5::5", drawn, "2 .one for each source. or 3 .one for each shard. are expected"),
        ("5::x", drawn, "must be numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            params.parse_args(words(path, *more, "--train-data-upsampling-factors", said))
    with pytest.raises(ConfigError, match="explicit --dataset-type"):
        params.parse_args(["--train-data", path])


def test_a_run_reads_the_same_data(path):
    options, _ = parse(words(path, "--dataset-resampled", "--workers", "1", "--batch-size", "50"))
    data, steps = data_of(options, DataConfig(), processes=1)
    assert (data.path, data.upsample, steps) == ("::".join(SHARDS), (1.0, 1.0, 0.25), 3)
    data, _ = data_of(replace(options, dataset_resampled=False), DataConfig(), processes=1)
    assert data.upsample == ()


def test_yaml_reads_the_same(path, tmp_path):
    yaml = pytest.importorskip("yaml")
    other = tmp_path / "mix.yaml"
    other.write_text(yaml.safe_dump(data_manifest.load_manifest(path)))
    assert data_manifest.load_manifest(other) == data_manifest.load_manifest(path)
    other.write_text("sources: [open\n  - : :")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        data_manifest.looks_like_manifest(str(other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version must be 1, and is 2"),
        ({"weight_mode": "even"}, "weight_mode 'even' must be one of raw, mixture_fraction"),
        ({"sources": []}, "sources must be a non-empty list"),
        ({"sources": ["a.tar"]}, r"sources\[0\] must be an object"),
        ({"sources": [{"shards": [], "samples": 1}]}, "shards must be a path"),
        ({"sources": [{"shards": "a.tar"}]}, "samples must be the number"),
        ({"sources": [{"shards": "a.tar", "samples": True}]}, "samples must be the number"),
        ({"sources": [{**SOURCES[0], "sampling_weight": -1}]}, "sampling_weight must be a number"),
        ({"weight_mode": "mixture_fraction"}, "mixture_fraction must be a number"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, change, message):
    path = tmp_path / "mix.json"
    path.write_text(json.dumps({"version": 1, "sources": SOURCES} | change))
    with pytest.raises(ConfigError, match=message):
        data_manifest.load_manifest(path)


def test_a_broken_file_is_said(tmp_path):
    path = tmp_path / "mix.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        data_manifest.looks_like_manifest(str(path))
    path.write_text("[]")
    with pytest.raises(ConfigError, match="is no manifest"):
        data_manifest.load_manifest(path)
