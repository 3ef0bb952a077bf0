"""When vectors may be used again: the digest of the files that samples depend on."""

import os

import pytest

from diptych.data import open_source
from diptych.encoder.features import source_version
from tests.data.builders import config, picture


@pytest.fixture
def source(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(picture(n))
    table = tmp_path / "pairs.csv"
    table.write_text("filepath,title\n" + "".join(f"{n}.png,number {n}\n" for n in range(3)))
    return open_source(config(tmp_path, table))


def test_a_picture_that_is_replaced_under_its_name_is_another_one(source, tmp_path):
    before = source_version(source, 3)
    assert source_version(source, 3) == before
    (tmp_path / "2.png").write_bytes(picture(7) + b"\0")
    assert source_version(source, 3) != before


def test_only_the_samples_that_are_asked_for_count(source, tmp_path):
    before = source_version(source, 2)
    os.utime(tmp_path / "2.png", ns=(0, 0))
    assert source_version(source, 2) == before


def test_a_picture_that_is_missing_changes_it_too(source, tmp_path):
    before = source_version(source, 3)
    (tmp_path / "1.png").unlink()
    assert source_version(source, 3) != before
