"""The stream of pictures: order, bounds, errors, threads."""

import threading
import time
import weakref

import pytest
import torch

from diptych.encoder import extract
from diptych.errors import ImageError


def pixels(level: int) -> torch.Tensor:
    return torch.full((3, 4, 4), level, dtype=torch.uint8)


def mean(batch: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(batch).float().mean((1, 2, 3))[:, None]


def collect(items, prepare, **options):
    return [
        (names, vectors[:, 0].tolist())
        for names, vectors in extract(items, prepare, mean, **options)
    ]


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_order_holds_though_threads_finish_in_any(threads):
    def prepare(level: int) -> torch.Tensor:
        time.sleep(0.002 * (level % 3))
        return pixels(level)

    found = collect(range(50), prepare, batch_size=8, threads=threads)
    assert [len(names) for names, _ in found] == [8] * 6 + [2]
    assert [name for names, _ in found for name in names] == list(range(50))
    assert [level for _, levels in found for level in levels] == list(map(float, range(50)))


def test_it_reads_only_so_far_ahead():
    """An endless iterator is fine, and memory stays bounded."""
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield 1

    stream = extract(endless(), pixels, mean, batch_size=4, threads=2)
    next(stream)
    stream.close()
    assert asked <= 4 + 2 * 4 + 1


def prepare_some(level: int) -> torch.Tensor:
    if level % 3 == 0:
        raise ImageError(f"picture {level}")
    return pixels(level)


def test_without_a_callback_the_first_bad_one_is_raised():
    before = threading.active_count()
    with pytest.raises(ImageError, match="picture 3"):
        collect([1, 2, 3, 4, 6], prepare_some, batch_size=2, threads=2)
    assert threading.active_count() <= before, "the pool's threads have ended"


def test_with_a_callback_they_are_reported_and_left_out():
    reported = []
    found = collect(
        range(8),
        prepare_some,
        batch_size=2,
        threads=2,
        unreadable=lambda item, error: reported.append((item, str(error))),
    )
    assert reported == [(0, "picture 0"), (3, "picture 3"), (6, "picture 6")]
    assert [names for names, _ in found] == [[1, 2], [4, 5], [7]]


def test_our_own_mistakes_are_not_swallowed():
    def prepare(level: int) -> torch.Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        collect([1], prepare, batch_size=2, threads=1, unreadable=lambda *_: None)


def test_neighbours_of_different_groups_share_no_batch():
    batches = extract(range(10), str, len, batch_size=3, threads=2, group=lambda item: item // 4)
    assert [items for items, _ in batches] == [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9]]


def test_a_thread_that_hangs_is_not_waited_for_in_the_end():
    stuck = threading.Event()
    batches = extract(
        [1, 2, 3, 4, 5],
        lambda n: n if n < 4 else stuck.wait(60),
        sum,
        batch_size=1,
        threads=2,
    )
    assert next(iter(batches)) == ([1], 1)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 10
    stuck.set()


def test_an_error_that_waits_for_slower_ones_does_not_hold_its_picture():
    class Giant:
        pass

    held = list[weakref.ref[Giant]]()

    def prepare(n: int) -> int:
        giant = Giant()
        held.append(weakref.ref(giant))
        try:
            raise ValueError(giant)
        except ValueError as error:
            raise ImageError(f"{n} is none") from error

    errors = list[ImageError]()
    parts = extract(
        [1, 2],
        prepare,
        sum,
        batch_size=1,
        threads=1,
        unreadable=lambda n, error: errors.append(error),
    )
    assert list(parts) == []
    assert [str(error) for error in errors] == ["1 is none", "2 is none"]
    assert [reference() for reference in held] == [None, None]
