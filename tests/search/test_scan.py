"""The scan finds what sorting all float32 scores finds, however it is cut."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from diptych import similarity
from diptych.search import nearest, scan


def plain(queries: Tensor, vectors: Tensor, top: int, allowed: Tensor | None = None):
    """Float32 products, in tiles, one query after the other, sorted."""
    scores, rows = [], []
    kept = torch.arange(len(vectors)) if allowed is None else allowed.nonzero()[:, 0]
    for query in queries:
        near = torch.cat([tile.float() @ query for tile in vectors.split(65536)])[kept]
        order = near.argsort(descending=True, stable=True)[:top]
        scores.append(near[order])
        rows.append(kept[order])
    return torch.stack(scores), torch.stack(rows)


def dyadic(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers whose float32 products are exact, whatever the order of their sums, with many
    equals."""
    return torch.randint(-3, 4, shape, generator=generator) / 16


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def half(request, monkeypatch):
    """With the processor's bfloat16 products (or what torch makes of them), and without."""
    monkeypatch.setattr(similarity, "has_half_products", lambda: request.param)


@pytest.mark.usefixtures("half")
@pytest.mark.parametrize("tile", [40, 640, 2**19])
@pytest.mark.parametrize("queries", [1, 5, 30])
def test_scores_rows_and_ties_are_those_of_float32(monkeypatch, queries, tile):
    monkeypatch.setattr(scan, "_NUMBERS", tile)
    monkeypatch.setattr(scan, "_QUERIES", 16)
    monkeypatch.setattr(scan, "_PENDING", 2)
    generator = torch.Generator().manual_seed(queries + tile)
    vectors, asked = dyadic(generator, 150, 20), dyadic(generator, queries, 20)
    allowed = torch.rand(150, generator=generator) < 0.5
    for top, mask in ((1, None), (7, None), (7, allowed), (90, allowed), (180, None)):
        expected, found = plain(asked, vectors, top, mask), nearest(asked, vectors, top, mask)
        held = nearest(asked, vectors, top, mask, vectors.bfloat16())
        for scores, rows in (found, held):
            assert torch.equal(scores, expected[0])
            assert torch.equal(rows, expected[1])


@pytest.mark.usefixtures("half")
def test_nothing_is_lost_where_all_are_near(monkeypatch):
    """Vectors that bfloat16 can't tell apart, in a memory-mapped store of float16."""
    monkeypatch.setattr(scan, "_NUMBERS", 64 * 32)
    generator = torch.Generator().manual_seed(0)
    middle = torch.randn(64, generator=generator)
    vectors = normalize(middle + 1e-2 * torch.randn(3000, 64, generator=generator), dim=1).half()
    queries = normalize(middle + 1e-1 * torch.randn(8, 64, generator=generator), dim=1)
    _, rows = nearest(queries, vectors, 20)
    for query, found in zip(queries, rows, strict=True):
        assert torch.equal(nearest(query[None], vectors, 20, half=vectors.bfloat16())[1][0], found)
    exact = (queries.double() @ vectors.double().T).float()
    assert torch.equal(rows, exact.argsort(dim=1, descending=True, stable=True)[:, :20])


def test_equal_pictures_have_equal_scores_wherever_they_lie():
    generator = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(1001, 37, generator=generator), dim=1)
    vectors[[3, 500, 1000]] = vectors[700].clone()
    scores, rows = nearest(vectors[700:701], vectors, 4)
    assert rows.tolist() == [[3, 500, 700, 1000]]
    assert len(scores.unique()) == 1


def test_a_row_that_is_not_allowed_changes_nothing_whatever_it_holds(monkeypatch):
    monkeypatch.setattr(scan, "_NUMBERS", 64 * 8)
    generator = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(300, 8, generator=generator), dim=1)
    vectors[0], vectors[1:10] = torch.nan, torch.inf
    allowed = torch.arange(300) >= 10
    scores, rows = nearest(vectors[10:15], vectors, 4, allowed)
    expected = nearest(vectors[10:15], vectors[10:], 4)
    assert torch.equal(scores, expected[0])
    assert torch.equal(rows, expected[1] + 10)


def test_without_rows_or_queries_nothing_is_found():
    vectors = torch.eye(3)
    assert nearest(vectors[:0], vectors, 2)[0].shape == (0, 2)
    assert nearest(vectors, vectors[:0], 2)[1].shape == (3, 0)
    assert nearest(vectors, vectors, 2, torch.zeros(3, dtype=torch.bool))[1].shape == (3, 0)


def test_a_file_is_scanned_where_it_lies(tmp_path):
    vectors = np.memmap(tmp_path / "v", np.float16, "w+", shape=(100, 8))
    vectors[:] = np.eye(8)[np.arange(100) % 8]
    _, rows = nearest(torch.eye(8)[2:3], torch.from_numpy(vectors), 3)
    assert rows.tolist() == [[2, 10, 18]]
