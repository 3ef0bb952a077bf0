"""A state makes its tensors when they are asked for, and lets go of what they are made from."""

import gc
import weakref

import torch

from diptych.weights.mapping import FUSED, Rule, Table
from diptych.weights.state import Lazy, State


def test_nothing_is_made_before_it_is_asked_for():
    made = []

    def make():
        made.append(1)
        return torch.ones(2)

    state = State(
        {"image.a": Lazy(torch.empty(2, device="meta"), make), "text.b": Lazy(torch.empty(0), make)}
    )
    table = Table(rules=(Rule("c", "a"),))
    ours = table.to_ours(state.part("image.")).updated({"d": torch.zeros(1)})
    made.clear()  # the check of types under pytest looks into a mapping
    assert list(ours) == ["c", "d"]
    assert ours.shapes["c"].shape == (2,)
    assert not made
    assert torch.equal(ours["c"], torch.ones(2))
    assert made == [1]


def test_a_part_is_let_go_with_the_tensor_made_from_it():
    table = Table(rules=(Rule("qkv", ("q", "k", "v"), FUSED),))
    foreign = {name: torch.randn(2, 3) for name in "qkv"}
    behind = [weakref.ref(tensor) for tensor in foreign.values()]
    state = table.to_ours(foreign)
    foreign.clear()
    assert state.pop("qkv").shape == (6, 3)
    gc.collect()
    assert [ref() for ref in behind] == [None] * 3
    assert len(state) == 0
