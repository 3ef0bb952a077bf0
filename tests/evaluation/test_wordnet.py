"""Folders that go by WordNet ids are asked by ImageNet's names, on whichever way they come."""

import pytest
import torch
from PIL import Image

import diptych
from diptych.config import DataConfig
from diptych.datasets import open_own
from diptych.distributed import Peers
from diptych.errors import DataError
from diptych.training.evaluate import evaluate_model
from tests import tiny

IDS = {"n01440764": "tench", "n02979186": "cassette player", "n03773504": "missile"}


def pictures(root, folders):
    """Two pictures a class, each of its own colour."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for each in range(2):
            colour = (80 * number, 30 * each, 255 - 80 * number)
            Image.new("RGB", (32, 32), colour).save(root / folder / f"{each}.png")
    return root


@pytest.fixture
def by_hand(tmp_path):
    """The accuracy with names that were written down."""
    spelt = pictures(tmp_path / "spelt", [name.replace(" ", "_") for name in IDS.values()])
    order = sorted(range(3), key=lambda number: list(IDS.values())[number])
    vectors = tiny.encoder().embed_images(sorted(map(str, spelt.rglob("*.png"))))
    names = [list(IDS.values())[number] for number in order]
    texts = tiny.encoder().embed_texts([f"a photo of a {name}." for name in names])
    labels = torch.arange(3).repeat_interleave(2)
    return ((vectors @ texts.T).argmax(1) == labels).double().mean().item()


def test_by_data_by_task_and_while_training(tmp_path, by_hand):
    place = str(pictures(tmp_path / "IN-1K" / "val", IDS))
    alone = diptych.evaluate(tiny.encoder(), "zero-shot", place)
    assert alone.class_names == tuple(IDS.values())
    assert alone.metrics["top1"] == pytest.approx(by_hand)
    assert diptych.evaluate(tiny.encoder(), place).only().class_names == tuple(IDS.values())
    opened = open_own(DataConfig(path=place), "zero-shot")
    found = evaluate_model(tiny.model(), opened, 0, Peers())
    assert found["top1"] == pytest.approx(by_hand)


def test_ids_that_are_not_imagenets_are_refused_where_they_would_be_asked(tmp_path):
    place = tmp_path / "tiny-imagenet"
    for split in ("train", "test"):
        pictures(place / split, ("n01440764", "n12345678"))
    with pytest.raises(DataError, match="n12345678"):
        diptych.evaluate(tiny.encoder(), "zero-shot", place / "test")
    [why] = diptych.evaluate(tiny.encoder(), f"{place}/test").failures.values()
    assert "n12345678" in why
    assert "--class-names" in why
    (tmp_path / "names.txt").write_text("n01440764\nsomething\n")
    named = diptych.evaluate(
        tiny.encoder(), "zero-shot", place / "test", class_names=tmp_path / "names.txt"
    )
    assert named.class_names == ("tench", "something")
