"""Exact search of 1,000,000 vectors of width 512 by 100 texts' and by 1, and 20 one by one; beside
torch in float32, faiss's flat index and usearch's exact search, with the recall of the approximate
indexes of both. Then near duplicates of 30,000 beside faiss's range search, and the columns of a
million pictures, which filters ask, beside Python's own reading of the lines.

The vectors are like those of CLIP: a cone of pictures in clusters, and texts in another cone, far
from all of them. `DIPTYCH_VECTORS=200000` takes fewer. Rows of approximate indexes, which are
not exact, are in `ratio` slower or faster and say their recall in `check`.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.compare import Row, seconds
from diptych.search import nearest
from diptych.search.connected import Connecting
from diptych.search.entries import absolute, read_entries, written
from diptych.search.scan import in_half

COUNT = int(os.environ.get("DIPTYCH_VECTORS", "1000000"))
WIDTH, QUERIES, TOP, TILE = 512, 100, 10, 65536
NEAR, THRESHOLD = 30_000, 0.97
"""Vectors of which all pairs are compared, and what makes two near duplicates."""
FEW = 100_000
"""Vectors of the approximate indexes, which take minutes to build."""


def vectors() -> tuple[Tensor, Tensor]:
    """Pictures and texts."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2000, WIDTH, generator=generator)
    pictures, offset = torch.empty(COUNT, WIDTH), torch.randn(WIDTH, generator=generator)
    for part in pictures.split(TILE):
        cluster = torch.randint(len(centres), (len(part),), generator=generator)
        part.copy_(torch.randn(part.shape, generator=generator))
        part.add_(centres[cluster]).add_(offset)
        part.copy_(normalize(part, dim=1))
    texts = centres[:QUERIES] + torch.randn(QUERIES, WIDTH, generator=generator)
    away = torch.randn(WIDTH, generator=generator) * 2
    return pictures, normalize(texts + away, dim=1)


def plain(queries: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Torch in float32: products and topk of one tile after the other."""
    best, rows = torch.zeros(len(queries), 0), torch.zeros(len(queries), 0, dtype=torch.long)
    for start in range(0, len(pictures), TILE):
        scores, places = (queries @ pictures[start : start + TILE].T).topk(TOP)
        best, rows = torch.cat([best, scores], 1), torch.cat([rows, places + start], 1)
        best, order = best.topk(TOP)
        rows = rows.gather(1, order)
    return best, rows


def recall(found: Tensor | np.ndarray, true: Tensor) -> float:
    return (torch.as_tensor(found)[:, :, None] == true[:, None]).any(2).float().mean().item()


def rows() -> Iterator[Row]:
    pictures, texts = vectors()
    _, found = nearest(texts, pictures, TOP)
    same = recall(found, plain(texts, pictures)[1])
    for name, peer in _peers(texts, pictures):
        mine, other = seconds(lambda: nearest(texts, pictures, TOP), peer, rounds=5)
        check = f"recall of ours beside float32 {same:.4f}"
        yield Row(name=f"100 queries beside {name}", unit="s", ours=mine, theirs=other, check=check)
    one = texts[:1]
    mine, other = seconds(lambda: nearest(one, pictures, TOP), lambda: plain(one, pictures))
    yield Row(name="1 query beside torch", unit="s", ours=mine, theirs=other)
    if (half := in_half(pictures)) is not None:
        mine, other = seconds(
            lambda: nearest(one, pictures, TOP, half=half), lambda: plain(one, pictures)
        )
        held = recall(nearest(one, pictures, TOP, half=half)[1], plain(one, pictures)[1])
        name = "1 query, vectors held in bfloat16, beside torch"
        yield Row(name=name, unit="s", ours=mine, theirs=other, check=f"recall {held:.4f}")
        del half
    several = texts[:20]
    mine, other = seconds(
        lambda: nearest(several, pictures, TOP),
        lambda: [nearest(each[None], pictures, TOP) for each in several],
        rounds=3,
    )
    yield Row(name="20 queries at once beside one by one", unit="s", ours=mine, theirs=other)
    yield from _near(pictures[:NEAR].clone())
    yield from _columns()
    yield from _approximate(texts, pictures[:FEW])


def _near(pictures: Tensor) -> Iterator[Row]:
    """Every hundredth picture is nearly the one before it."""
    noise = torch.randn(pictures[1::100].shape, generator=torch.Generator().manual_seed(1))
    pictures[1::100] = normalize(pictures[0::100] + 0.003 * noise, dim=1)
    if not find_spec("faiss"):
        return
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(pictures.numpy())

    def ours() -> int:
        near = Connecting(pictures, torch.arange(len(pictures)), THRESHOLD)
        for _ in near.blocks():
            pass
        return len(pictures) - len(set(near.labels.tolist()))

    def theirs() -> int:
        """Pairs, from which groups would still have to be made."""
        limits, _, _ = flat.range_search(pictures.numpy(), THRESHOLD)
        return (int(limits[-1]) - len(pictures)) // 2

    mine, other = seconds(ours, theirs, rounds=1)
    name = f"near duplicates of {len(pictures):,} beside faiss range_search"
    check = f"{ours()} joined; {theirs()} pairs of theirs"
    yield Row(name=name, unit="s", ours=mine, theirs=other, check=check)


def _columns() -> Iterator[Row]:
    lines = [
        b'{"path": "photos/%03d/%07d.jpg", "size": %d, "mtime_ns": %d, "digest": "%032x"}\n'
        % (row % 100, row, row, 1_700_000_000_000_000_000 + row * 10**11, row)
        for row in range(COUNT)
    ]
    text = np.frombuffer(b"".join(lines), np.uint8)
    ends = np.cumsum(list(map(len, lines))).tolist()

    def ours() -> object:
        entries = read_entries(text, ends)
        return absolute(entries["path"], "/home/me"), written(entries)

    mine, other = seconds(ours, lambda: list(map(json.loads, lines)), rounds=1)
    name = f"paths and dates of {COUNT:,} pictures beside json"
    yield Row(name=name, unit="s", ours=mine, theirs=other)


def _peers(texts: Tensor, pictures: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "torch, float32", lambda: plain(texts, pictures)
    if find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        flat = faiss.IndexFlatIP(WIDTH)
        flat.add(pictures.numpy())
        yield "faiss IndexFlatIP", lambda: flat.search(texts.numpy(), TOP)
    if find_spec("usearch"):
        from usearch.index import search

        threads = torch.get_num_threads()
        yield (
            "usearch, exact",
            lambda: search(pictures.numpy(), texts.numpy(), TOP, "ip", exact=True, threads=threads),
        )


def _approximate(texts: Tensor, pictures: Tensor) -> Iterator[Row]:
    _, true = nearest(texts, pictures, TOP)
    for name, build in (("usearch HNSW", _usearch), ("faiss HNSW", _faiss)):
        if not find_spec(name.split()[0]):
            continue
        start = time.perf_counter()
        find = build(pictures)
        built = time.perf_counter() - start
        mine, other = seconds(lambda: nearest(texts, pictures, TOP), partial(find, texts))
        check = f"recall of theirs {recall(find(texts), true):.3f}, built in {built:.0f} s"
        yield Row(
            name=f"100 queries of {len(pictures):,} beside {name}",
            unit="s",
            ours=mine,
            theirs=other,
            check=check,
        )


def _usearch(pictures: Tensor) -> Callable[[Tensor], np.ndarray]:
    from usearch.index import Index

    index = Index(ndim=WIDTH, metric="ip", dtype="bf16")
    index.add(np.arange(len(pictures)), pictures.numpy(), threads=torch.get_num_threads())
    return lambda texts: index.search(texts.numpy(), TOP).keys.astype(np.int64)


def _faiss(pictures: Tensor) -> Callable[[Tensor], np.ndarray]:
    import faiss

    index = faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 64
    index.add(pictures.numpy())
    return lambda texts: index.search(texts.numpy(), TOP)[1]
