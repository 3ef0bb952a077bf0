"""The graph beside an index: its recall is measured, and it follows the index."""

import sys

import pytest
import torch
from torch.nn.functional import normalize

from diptych.errors import ConfigError, DataWarning
from diptych.search import Index, writer
from diptych.search.approximate import Approximate
from diptych.search.pictures import Picture
from tests.search.test_index import vector_index


def clustered(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 16, generator=generator)
    noise = torch.randn(count, 16, generator=generator)
    return normalize(centres[torch.arange(count) % 20] + 0.3 * noise, dim=1)


def test_it_finds_nearly_what_the_exact_search_finds_with_its_scores(tmp_path):
    index = vector_index(tmp_path / "x.index", clustered(2000))
    graph = Approximate.open(index._store)
    assert graph.is_new
    assert graph.recall > 0.9
    again = Approximate.open(index._store)
    assert not again.is_new
    assert again.recall == graph.recall
    queries = clustered(2003)[2000:]
    exact = index.search_many(queries, top=5)
    nearly = index.search_many(queries, top=5, approximate=True)
    for mine, true in zip(nearly, exact):
        assert len({hit.row for hit in mine} & {hit.row for hit in true}) >= 4
        scores = {hit.row: hit.score for hit in true}
        assert all(hit.score == scores.get(hit.row, hit.score) for hit in mine)


def test_a_changed_index_and_a_cut_graph_get_a_new_one(tmp_path):
    folder = tmp_path / "x.index"
    Approximate.open(vector_index(folder, clustered(50))._store)
    with writer.Appender(folder) as appender:
        more = Picture(path="/p/more.jpg", size=1, mtime_ns=1)
        appender.append([more], normalize(torch.ones(1, 16), dim=1))
    index = Index.open(folder)
    graph = Approximate.open(index._store)
    assert graph.is_new
    [(_, rows)] = graph.nearest(normalize(torch.ones(1, 16), dim=1), 1)
    assert rows == [50]
    path = folder / "approximate.usearch"
    path.write_bytes(path.read_bytes()[:-7])
    assert Approximate.open(index._store).is_new
    whole = path.read_bytes()
    path.write_bytes(whole)  # as a copy of the index has it, or a stranger's
    assert Approximate.open(index._store).is_new
    assert not Approximate.open(index._store).is_new
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    assert Approximate.open(index._store).is_new
    (folder / "approximate.json").write_text("[")
    assert Approximate.open(index._store).is_new
    assert len(Index.open(folder).search(torch.ones(16), top=60, approximate=True)) == 51


def test_damaged_entries_are_left_out_and_said(tmp_path):
    folder = tmp_path / "x.index"
    vectors = clustered(50)
    vector_index(folder, vectors).graph()
    items = folder / "items-0.jsonl"
    lines = items.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"size": 1', b'"size": 2')
    items.write_bytes(b"".join(lines))
    with pytest.warns(DataWarning, match="1 entries of .* are damaged, and left out"):
        found = Index.open(folder).search(vectors[7], top=50, approximate=True)
    assert {hit.row for hit in found} == {*range(50)} - {7}
    (folder / "approximate.json").unlink()
    with pytest.warns(DataWarning, match="left out"):
        assert Approximate.open(Index.open(folder)._store).recall == 1


def test_without_usearch_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    index = vector_index(tmp_path, clustered(3))
    with pytest.raises(ConfigError, match=r"needs usearch: `pip install 'diptych\[ann\]'`"):
        index.search(torch.ones(16), approximate=True)
