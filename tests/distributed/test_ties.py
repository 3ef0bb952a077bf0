"""Parameters with several names stay one when each process has its share of them, and odd tensors
come along."""

import pytest
import torch
from torch import nn

from diptych.config import ShardConfig
from diptych.distributed import Parts, Peers, data_parallel, whole
from diptych.distributed.ties import tie, ties_of
from diptych.errors import ConfigError
from tests.distributed.harness import run_processes


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)
        self.down.weight = self.up.weight

    def forward(self, x):
        return x + self.down(self.up(x).tanh())


class Tied(nn.Module):
    """Words whose table makes the logits, and blocks that share within them; one stands twice."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.head.weight = self.words.weight
        first = Block()
        self.blocks = nn.Sequential(first, Block(), first)
        for name, buffer in {
            "seen": torch.tensor(True),
            "empty": torch.empty(3, 0),
            "turns": torch.polar(torch.ones(3), torch.arange(3.0)),
            "small": torch.arange(3, dtype=torch.int8),
            "turned": torch.arange(6.0).view(2, 3).T,
        }.items():
            self.register_buffer(name, buffer)

    @property
    def units(self):
        return list(self.blocks)

    def set_checkpointing(self, on=True):
        raise NotImplementedError

    def forward(self, ids):
        return self.head(self.blocks(self.words(ids))).square().mean()


def trained(peers, shard):
    torch.manual_seed(0)
    model = Tied().double()
    if shard.mode != "replicate" and not peers.is_main:
        ties = ties_of(model)
        tie(model.to("meta"), ties)  # only the first process's numbers count
    wrapped = data_parallel(model, peers, shard, Parts([model]))
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for ids in torch.arange(24).view(3, 8) % 7:
        optimizer.zero_grad()
        wrapped(ids[peers.rank :: peers.size]).backward()
        optimizer.step()
    count = len(list(model.parameters()))
    return count, {name: whole(t.detach()).clone() for name, t in model.state_dict().items()}


def all_trained(peers, shards):
    return [trained(peers, shard) for shard in shards]


def test_they_train_as_in_one_process():
    shards = [ShardConfig(mode="zero2"), ShardConfig(mode="zero3"), ShardConfig()]
    count, expected = trained(Peers(), ShardConfig())
    assert torch.equal(expected["words.weight"], expected["head.weight"])
    for found in run_processes(2, all_trained, shards):
        for parameters, state in found:
            assert parameters == count
            assert state.keys() == expected.keys()
            for name, tensor in state.items():
                torch.testing.assert_close(tensor, expected[name])


def test_what_is_spread_apart_is_refused():
    model = Tied()
    model.blocks[1].up.weight = nn.Parameter(torch.eye(4))
    assert ("words.weight", "head.weight") in ties_of(model, model.units)
    model.blocks[1].up.weight = model.blocks[0].up.weight
    with pytest.raises(ConfigError, match="are one parameter, and are sharded apart"):
        ties_of(model, model.units)
    model.nothing = nn.Parameter(torch.empty(0, 4))
    with pytest.raises(ConfigError, match=r"nothing has no numbers \(it is \[0, 4\]\)"):
        ties_of(model)
