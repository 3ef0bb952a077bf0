"""What can't be written to is found out before the work, and the trial leaves nothing."""

import os

import pytest

from diptych.errors import ConfigError
from diptych.writable import check_file, check_new, check_writable


def test_a_trial_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b", "--out")
    check_writable(tmp_path, "--out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "place", ["s3://bucket/run", "gs://b", "hdfs://h/run", "hf://org/name", "s3:/bucket", "s3:"]
)
def test_an_address_is_no_folder(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"--out {place} is no folder of this machine"):
        check_writable(place, "--out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["run:1", "lr=1e-4:seed", "./s3:x", "a b"])
def test_a_colon_alone_is_no_address(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    check_writable(place, "--out")


@pytest.mark.parametrize("place", ["", " "])
def test_an_empty_name_is_refused(place):
    with pytest.raises(ConfigError, match="--out is empty"):
        check_writable(place, "--out")


def test_a_file_is_no_folder_and_has_none_below(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="Not a directory|File exists"):
            check_writable(place, "--out")


def test_a_name_that_is_too_long_is_said_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="--out .*: File name too long; choose another"):
        check_new(tmp_path / ("x" * 245), "--out")
    check_new(tmp_path / ("x" * 200), "--out")


def test_what_the_system_makes_itself_is_refused():
    with pytest.raises(ConfigError, match=r"nothing can be written into /proc/run \(--out\)"):
        check_writable("/proc/run", "--out")


def test_a_file_needs_a_folder_that_can_be_written_to(tmp_path):
    check_file(tmp_path / "new" / "page.html", "--out")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"written into .*file \(--out\): Not a directory"):
        check_file(tmp_path / "file" / "page.html", "--out")
    with pytest.raises(ConfigError, match="--html s3://b/page.html is no folder of this machine"):
        check_file("s3://b/page.html", "--html")


def test_a_folder_and_a_pipe_are_no_place_for_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ConfigError, match=r"--out .*pipe.csv is no regular file; name a file"):
        check_file(tmp_path / "pipe.csv", "--out")
    with pytest.raises(ConfigError, match=r"--out .* is a folder; name a file"):
        check_file(tmp_path, "--out")
    check_new(tmp_path, "--out")
