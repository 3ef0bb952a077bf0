"""The collectives, between real processes."""

import pytest
import torch
import torch.distributed as dist

from diptych.distributed import Peers
from tests.distributed.harness import run_processes


def collectives(peers):
    local = torch.arange(2.0) + 10 * peers.rank
    everyones = torch.arange(2.0 * peers.size).view(-1, 1) + peers.rank
    by_sum = peers.reduce_scatter(everyones)
    dist.get_backend = lambda: "nccl"
    by_scatter = peers.reduce_scatter(everyones)
    return (
        peers.all_gather(local),
        peers.sum(local),
        peers.max(local),
        by_sum,
        by_scatter,
        peers.any(peers.rank == 1),
        peers.any(False),
    )


def test_collectives_of_two_processes():
    for rank, (gathered, total, largest, by_sum, by_scatter, one_says, none_says) in enumerate(
        run_processes(2, collectives)
    ):
        assert gathered.tolist() == [0, 1, 10, 11]
        assert total.tolist() == [10, 12]
        assert largest.tolist() == [10, 11]
        assert by_sum.flatten().tolist() == by_scatter.flatten().tolist() == [[1, 3], [5, 7]][rank]
        assert one_says
        assert not none_says


def test_alone_they_change_nothing():
    peers, values = Peers(), torch.arange(4.0)
    for result in (
        peers.all_gather(values),
        peers.sum(values),
        peers.max(values),
        peers.reduce_scatter(values),
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
