"""The collectives, between real processes."""

import pytest
import torch

from diptych.distributed import PeerError, Peers, on_main, together
from tests.distributed.harness import run_processes


def failed(peers, share, where):
    """What this process raises where the process `where` meets an error that nobody expects."""

    def work():
        if peers.rank == where:
            raise KeyError("name")

    with pytest.raises((KeyError, PeerError)) as found:
        share(peers, work)
    return f"{type(found.value).__name__}: {found.value}"


def collectives(peers):
    # First: those behind would meet others' where one process had gone on.
    here, there = "KeyError: 'name'", "PeerError: KeyError: 'name'"
    assert failed(peers, together, 1) == (here if peers.rank == 1 else there)
    assert failed(peers, on_main, 0) == (here if peers.is_main else there)
    local = torch.arange(2.0) + 10 * peers.rank
    everyones = torch.arange(2.0 * peers.size).view(-1, 1) + peers.rank
    kept = everyones.clone()
    scattered = peers.start_reduce_scatter(everyones).wait()
    assert everyones.equal(kept)
    # Those under way end in any order.
    later = [peers.start_all_gather(local), peers.start_reduce_scatter(everyones.double())]
    assert later[1].wait().tolist() == scattered.tolist()
    assert later[0].wait().equal(peers.all_gather(local))
    bits = torch.tensor([[peers.rank == 0], [True]]).to(torch.uint8)
    assert peers.all_gather(bits).tolist() == [[1], [1], [0], [1]]
    assert peers.all_gather(local[:0]).shape == (0,)
    assert peers.all_gather(torch.ones(2, 3).T + peers.rank).unique().tolist() == [1, 2]
    return (
        peers.all_gather(local),
        peers.sum(local),
        peers.max(local),
        scattered,
        peers.any(peers.rank == 1),
        peers.any(False),
    )


def test_collectives_of_two_processes():
    for rank, (gathered, total, largest, scattered, one_says, none_says) in enumerate(
        run_processes(2, collectives)
    ):
        assert gathered.tolist() == [0, 1, 10, 11]
        assert total.tolist() == [10, 12]
        assert largest.tolist() == [10, 11]
        assert scattered.flatten().tolist() == [[1, 3], [5, 7]][rank]
        assert one_says
        assert not none_says


def test_alone_they_change_nothing():
    peers, values = Peers(), torch.arange(4.0)
    for result in (
        peers.all_gather(values),
        peers.sum(values),
        peers.max(values),
        peers.start_reduce_scatter(values).wait(),
    ):
        assert result.equal(values)
    assert peers.any(True)
    assert not peers.any(False)


def fail_on_one(peers):
    if peers.rank == 1:
        raise ValueError("on purpose")
    return peers.sum(torch.ones(1))


def test_a_process_that_fails_ends_the_test():
    with pytest.raises(AssertionError, match="died"):
        run_processes(2, fail_on_one)
