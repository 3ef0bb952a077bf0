"""Which pictures of an index are nearly alike."""

import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from diptych.search import Condition, Index, Where, duplicates, update
from tests import tiny
from tests.search.test_index import random, vector_index


def rows_of(groups) -> list[set[str]]:
    return [{group.kept.path, *(other.picture.path for other in group.others)} for group in groups]


def components(vectors: torch.Tensor, threshold: float) -> list[set[str]]:
    """By Warshall's closure, in float64."""
    near = (vectors.double() @ vectors.double().T).float() >= threshold
    for middle in range(len(near)):
        near |= near[:, middle, None] & near[middle]
    found = {frozenset(row.nonzero()[:, 0].tolist()) for row in near}
    groups = sorted((sorted(group) for group in found if len(group) > 1), key=min)
    return [{f"/p/{row}.jpg" for row in group} for group in groups]


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.999])
@pytest.mark.parametrize("share", [1, 10**9])
def test_groups_are_the_connected_components_of_exact_cosines(
    tmp_path, monkeypatch, kind, threshold, share
):
    sizes = {"_BLOCK": 16, "_TILE": 24, "_ROWS": 25, "_PENDING": 3, "_SHARE": share}
    for name, size in sizes.items():
        monkeypatch.setattr(sys.modules["diptych.search.connected"], name, size)
    vectors = random(60, 6)
    vectors[40:50] = vectors[:10]
    vectors[50:] = normalize(vectors[10:20] + 0.05 * random(70, 6)[60:], dim=1)
    index = vector_index(tmp_path, vectors, kind)
    found = duplicates(index, threshold)
    assert rows_of(found) == components(index.vectors, threshold)
    assert threshold > 0.6 or len(found[0].others) > 10
    for group in found:
        assert not any(other.is_copy for other in group.others)


def test_a_pair_at_the_threshold_belongs_together(tmp_path):
    vectors = random(50, 16)
    index = vector_index(tmp_path, vectors)
    scores = (vectors.double() @ vectors.double().T).float()
    edge = float(scores[3, 7])
    assert {"/p/3.jpg", "/p/7.jpg"} <= set.union(*rows_of(duplicates(index, edge)))
    above = float(np.nextafter(np.float32(edge), np.float32(2)))
    assert rows_of(duplicates(index, above)) == components(vectors, above)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_equal_vectors_are_found_by_1_whatever_rounding_left_of_their_lengths(tmp_path, kind):
    index = vector_index(tmp_path, random(40, 6).repeat(2, 1), kind)
    found = rows_of(duplicates(index, 1.0))
    assert found == [{f"/p/{row}.jpg", f"/p/{row + 40}.jpg"} for row in range(40)]
    for row in range(40):
        hits = index.search(index.vectors[row].float(), threshold=1.0)
        assert [hit.row for hit in hits] == [row, row + 40]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    tiny.picture("red").save(folder / "a.png")
    tiny.picture("red").resize((80, 60), Image.Resampling.NEAREST).save(folder / "large.png")
    shutil.copy(folder / "a.png", folder / "copy.png")
    tiny.picture("blue").save(folder / "blue.png")
    return folder


def test_the_largest_is_kept_and_copies_are_said_apart(tmp_path, photos):
    update(tmp_path / "x.index", photos, tiny.encoder())
    index = Index.open(tmp_path / "x.index")
    [group] = duplicates(index, 0.9)
    names = [(other.picture.path.rpartition("/")[2], other.is_copy) for other in group.others]
    assert group.kept.path.endswith("large.png")
    assert names == [("copy.png", True), ("a.png", False)]
    assert group.others[0].score == pytest.approx(group.others[1].score)
    [alike] = duplicates(index, copies=True)
    assert alike.kept.path.endswith("a.png")
    assert [other.is_copy for other in alike.others] == [True]
    where = Where(conditions=(Condition.parse("width<50"),))
    assert len(duplicates(index, 0.9, where=where)[0].others) == 1
    assert index.count("width<50") == index.count(where) < len(index)
    assert duplicates(index, 1.0, where=Where(folders=("none",))) == []
