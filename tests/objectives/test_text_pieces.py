"""Every objective gives the same with captions in pieces by length as with the padded batch."""

from dataclasses import replace

import pytest
import torch

from diptych.config import ClipObjectiveConfig, CocaObjectiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.models import build
from diptych.objectives import accumulate, build_objective
from tests.objectives.composed import CONFIGS, batch, model_config

ALL = {"clip": ClipObjectiveConfig(), "siglip": SiglipObjectiveConfig()} | {
    name: config for name, config in CONFIGS.items() if not isinstance(config, CocaObjectiveConfig)
}
"""But CoCa's: its tower reads no pieces, and its objective must know the lengths."""
PAIRS = 6


def trained_on(config, data, model, micro_batch=PAIRS):
    """The loss, and every parameter's gradient."""
    torch.manual_seed(1)
    objective = build_objective(config, model).double()
    objective.zero_grad()
    parts = [data.rows(start, start + micro_batch) for start in range(0, PAIRS, micro_batch)]
    loss = accumulate(objective, objective, parts, Peers()).total
    return loss, {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ALL)
def test_an_objective_gives_the_same_in_pieces(name):
    torch.manual_seed(0)
    model = build(model_config(name), dtype=torch.float64)
    torch.manual_seed(2)
    data = batch(build_objective(ALL[name], model).views, PAIRS)
    seen = list[int]()
    model.text.blocks[0].register_forward_hook(lambda module, args, out: seen.append(args[0]))
    expected = trained_on(ALL[name], replace(data, lengths=None), model)
    padded, seen[:] = sum(x.shape[0] for x in seen), []
    found = trained_on(ALL[name], data, model)
    shorter = sum(x.shape[0] for x in seen) < padded
    # As published, FILIP's words are everything up to the end of the context.
    assert shorter == (name != "filip")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    if name != "filip":
        torch.testing.assert_close(
            trained_on(ALL[name], data, model, micro_batch=2), expected, rtol=1e-9, atol=1e-12
        )
