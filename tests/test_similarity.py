"""Fast products keep the promise of their error."""

import pytest
import torch
from torch.nn.functional import normalize

from diptych import similarity
from diptych.similarity import (
    FastProducts,
    exact_matrix,
    exact_pairs,
    moved_by_half,
    reaching_pairs,
)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize("width", [3, 512])
def test_the_exact_product_lies_between_the_bounds(monkeypatch, half, kind, width):
    monkeypatch.setattr(similarity, "has_half_products", lambda: half)
    generator = torch.Generator().manual_seed(0)
    queries = normalize(torch.randn(6, width, generator=generator), dim=1)
    others = torch.randn(400, width, generator=generator)
    # Near the query, and far from it; numbers that rounding moves by all it may.
    vectors = normalize(torch.cat([others, queries.repeat(50, 1) + others[:300] / 50]), dim=1)
    vectors = torch.cat([vectors, normalize(torch.full((1, width), 1 + 2.0**-8), dim=1)]).to(kind)
    fast, exact = FastProducts(queries), exact_matrix(queries, vectors)
    closer = FastProducts(queries, moved=float(moved_by_half(vectors).max()))
    assert (closer.error <= fast.error).all()
    for start in (0, 256):  # buffers are used again
        tile, true = vectors[start : start + 256], exact[:, start : start + 256]
        for products in (fast, closer):
            scores, error = products(tile), products.error[:, None]
            assert scores.reach(true - error).all()
            assert not scores.reach(true + error, above=True).any()


def test_longer_vectors_have_a_larger_error():
    queries, vectors = torch.eye(4) * 3, torch.eye(4) * 5
    fast, unit = FastProducts(queries, longest=5.0), FastProducts(torch.eye(4), longest=1.0)
    torch.testing.assert_close(fast.error, 3 * 5 * unit.error)
    assert fast(vectors).reach((15 - fast.error)[:, None]).diagonal().all()


@pytest.mark.parametrize("bound", [-0.5, 0.0, 0.5])
def test_products_are_compared_as_numbers(monkeypatch, bound):
    monkeypatch.setattr(similarity, "has_half_products", lambda: True)
    values = torch.tensor([-1.0, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 1.0])
    products = FastProducts(torch.ones(4, 1))(values[:, None])
    edges = torch.full((4, 1), bound)
    assert (products.reach(edges) == (values >= bound).numpy()).all()
    assert (products.reach(edges, above=True) == (values > bound).numpy()).all()


def test_a_score_is_that_of_its_pair_alone():
    generator = torch.Generator().manual_seed(0)
    queries, vectors = torch.randn(9, 77, generator=generator), torch.randn(50, 77)
    matrix = exact_matrix(queries, vectors)
    query = torch.arange(9).repeat_interleave(50)
    row = torch.arange(50).repeat(9)
    assert torch.equal(exact_pairs(queries, query, vectors, row), matrix.flatten())


def test_pairs_reach_what_their_exact_scores_do():
    """Also edges that float32 can't tell from a score."""
    generator = torch.Generator().manual_seed(0)
    queries, vectors = torch.randn(9, 77, generator=generator), torch.randn(50, 77)
    query = torch.arange(9).repeat_interleave(50)
    row = torch.arange(50).repeat(9)
    exact = exact_pairs(queries, query, vectors, row)
    above = exact.nextafter(torch.tensor(torch.inf))
    assert reaching_pairs(queries, query, vectors, row, exact).all()
    assert not reaching_pairs(queries, query, vectors, row, above).any()
    edges = torch.zeros(len(exact))
    assert torch.equal(reaching_pairs(queries, query, vectors, row, edges), exact >= 0)
    nothing = torch.zeros(0, dtype=torch.long)
    assert reaching_pairs(queries, nothing, vectors, nothing, torch.zeros(0)).shape == (0,)
