"""Memory for decoding is counted over threads and processes; nobody waits who holds some."""

import contextlib
import multiprocessing
import threading
import time

import pytest

from diptych.errors import ImageError
from diptych.inputs.room import Room

LARGE = 10**8


def hold(room: Room, bytes: int, held: list[int], lasting: float = 0.05) -> None:
    with room.held():
        room.take(bytes)
        held.append(room.free)
        time.sleep(lasting)


def test_threads_wait_until_there_is_place():
    room, free = Room(3 * LARGE), list[int]()
    threads = [threading.Thread(target=hold, args=(room, 2 * LARGE, free)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    # Two would have left -1 x LARGE.
    assert free == [LARGE] * 4
    assert room.free == 3 * LARGE


def test_whoever_holds_some_goes_on():
    room = Room(2 * LARGE)
    with room.held():
        room.take(2 * LARGE)
        with room.held():
            room.take(2 * LARGE)
        assert room.free == -2 * LARGE
    assert room.free == 2 * LARGE


def test_what_is_taken_is_given_back_after_an_error():
    room = Room(2 * LARGE)
    with contextlib.suppress(KeyError), room.held():
        room.take(LARGE)
        raise KeyError
    assert room.free == 2 * LARGE


def test_small_pictures_arent_counted_and_impossible_ones_are_refused():
    room = Room(2 * LARGE)
    with room.held():
        room.take(1000)
        assert room.free == 2 * LARGE
        with pytest.raises(ImageError, match=r"would take 0.3 GB to decode, more than 0.2"):
            room.take(3 * LARGE)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_forked_processes_share_it():
    context = multiprocessing.get_context("fork")
    room, free = Room(3 * LARGE), context.Manager().list()
    with room.shared_by(3):
        processes = [context.Process(target=hold, args=(room, 2 * LARGE, free)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(10)
        assert list(free) == [LARGE] * 3
        assert room.free == 3 * LARGE


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_what_a_killed_process_held_is_free_again():
    context = multiprocessing.get_context("fork")
    room, taken = Room(3 * LARGE), context.Event()

    def keep() -> None:
        with room.held():
            room.take(2 * LARGE)
            taken.set()
            time.sleep(60)

    with room.shared_by(1):
        process = context.Process(target=keep)
        process.start()
        assert taken.wait(20)
        assert room.free == LARGE
        process.kill()
        process.join()
    with room.held():
        room.take(3 * LARGE)
