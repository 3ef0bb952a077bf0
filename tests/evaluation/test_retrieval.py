"""Recall against hand-computed cases and the plain matrix."""

import pytest
import torch
from torch.nn.functional import normalize

from diptych import similarity
from diptych.evaluation import retrieval


def plain(
    images: torch.Tensor, texts: torch.Tensor, owners: list[int], k: int
) -> tuple[float, float]:
    """(image to text, text to image), by sorting the whole matrix; no ties."""
    scores = texts @ images.T
    text_hits = [owners[t] in scores[t].argsort(descending=True)[:k] for t in range(len(texts))]
    image_hits = [
        any(owners[t] == i for t in scores[:, i].argsort(descending=True)[:k].tolist())
        for i in sorted(set(owners))
    ]
    return sum(image_hits) / len(image_hits), sum(text_hits) / len(text_hits)


def counted(images: torch.Tensor, texts: torch.Tensor, owners: torch.Tensor):
    """Ranks of (captioned pictures, captions) by comparing all float32 scores of one matrix."""
    scores = texts @ images.T
    own = scores[torch.arange(len(texts)), owners]
    mine = owners[:, None] == torch.arange(len(images))
    best = scores.where(mine, -torch.inf).amax(0)
    image_ranks = ((scores >= best) & ~mine).sum(0)[owners.unique()]
    return image_ranks, ((scores >= own[:, None]) & ~mine).sum(1)


def _in_tiles(monkeypatch, tile, half):
    monkeypatch.setitem(retrieval.__globals__, "_IMAGES", tile[0])
    monkeypatch.setitem(retrieval.__globals__, "_TEXTS", tile[1])
    monkeypatch.setattr(similarity, "has_half_products", lambda: half)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("tile", [(1024, 2048), (9, 16)])
@pytest.mark.parametrize("share", [32, 1])
def test_ranks_and_ties_are_those_of_float32(monkeypatch, tile, half, share):
    """Of numbers whose products are exact in float32, with many equal ones."""
    _in_tiles(monkeypatch, tile, half)
    monkeypatch.setitem(retrieval.__globals__, "_SHARE", share)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(-3, 4, (60, 12), generator=generator) / 16
    owners = torch.randint(0, 60, (150,), generator=generator)
    noise = torch.randint(-1, 2, (150, 12), generator=generator) / 16
    for texts in (images[owners], images[owners] + noise, noise):
        result = retrieval(images, texts, owners)
        image_ranks, text_ranks = counted(images, texts, owners)
        assert torch.equal(result.image_ranks, image_ranks)
        assert torch.equal(result.text_ranks, text_ranks)


def test_a_case_counted_by_hand():
    images = torch.eye(3)
    texts = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.6, 0.7], [0.8, 0.0, 0.6]])
    owners = torch.tensor([0, 0, 1, 2])
    result = retrieval(images, texts, owners, ks=(1, 2, 3))
    # Caption 1 finds picture 1 before its own 0; caption 2 finds 2 before 1; caption 3 finds 0
    # before 2.
    assert result.text_ranks.tolist() == [0, 1, 1, 1]
    # Picture 0: caption 0 is best. Picture 1: caption 1 (of 0) before 2. Picture 2: caption 2
    # before 3.
    assert result.image_ranks.tolist() == [0, 1, 1]
    assert result.text_to_image == {1: 1 / 4, 2: 1.0, 3: 1.0}
    assert result.image_to_text == {1: 1 / 3, 2: 1.0, 3: 1.0}
    assert result.mean_recall == pytest.approx((1 / 4 + 1 / 3 + 4) / 6)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("tile", [(1024, 2048), (1, 1), (7, 16)])
def test_equals_the_sorted_matrix(monkeypatch, tile, half):
    _in_tiles(monkeypatch, tile, half)
    generator = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(40, 6, generator=generator), dim=-1)
    owners = torch.randint(
        0, 40, (130,), generator=generator
    )  # some pictures have none, some several captions
    texts = normalize(images[owners] + 0.6 * torch.randn(130, 6, generator=generator), dim=-1)
    result = retrieval(images, texts, owners)
    for k in (1, 5, 10):
        assert (result.image_to_text[k], result.text_to_image[k]) == pytest.approx(
            plain(images, texts, owners.tolist(), k)
        )


def test_ties_stand_in_the_way():
    """A model that maps everything to one vector recalls nothing."""
    result = retrieval(torch.ones(20, 1), torch.ones(20, 1), torch.arange(20))
    assert result.mean_recall == 0.0


def test_pictures_without_captions_are_candidates_but_not_queries():
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    result = retrieval(images, torch.tensor([[0.8, 0.6]]), torch.tensor([0]), ks=(1, 2))
    assert result.text_to_image == {1: 0.0, 2: 1.0}
    assert result.image_to_text == {1: 1.0, 2: 1.0}
