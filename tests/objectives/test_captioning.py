"""The captioning loss in tiles is the equation, and no more of it is held than a tile."""

import pytest
import torch
from torch import nn

from diptych.batch import Batch
from diptych.config import CocaObjectiveConfig
from diptych.errors import ConfigError
from diptych.models import build
from diptych.objectives import build_objective
from diptych.objectives.captioning import captioning, tiled_token_losses, token_losses
from tests.objectives.composed import CONFIGS, CONTEXT, batch, model_config
from tests.objectives.small import small_config

PLACES, WIDTH, VOCABULARY = 11, 4, 7


def value_and_gradients(loss, **options):
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, VOCABULARY).double()
    states = torch.randn(PLACES, WIDTH, dtype=torch.float64, requires_grad=True)
    found = loss(states, torch.randint(0, VOCABULARY, (PLACES,)), head, **options)
    (found * torch.randn(PLACES).double()).sum().backward()
    return [found.detach(), states.grad, *(p.grad for p in head.parameters())]


@pytest.mark.parametrize("tile", [1, 4, PLACES, 100])
def test_tiles_have_the_value_and_the_gradients_of_the_whole(tile):
    expected = value_and_gradients(token_losses)
    found = value_and_gradients(tiled_token_losses, tile=tile)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_no_logits_are_kept_for_the_backward_pass():
    head, states, sizes = nn.Linear(WIDTH, 10_000), torch.randn(300, WIDTH), []
    ids = torch.zeros(300, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: sizes.append(x.numel()) or x, lambda x: x
    ):
        tiled_token_losses(states.requires_grad_(), ids, head, tile=100)
    assert max(sizes, default=0) <= states.numel()


def test_gradients_of_many_tiles_do_not_stall_in_half_precision():
    """In bfloat16 a sum of equal numbers ends at 256 of them."""
    head, count = nn.Linear(WIDTH, VOCABULARY), 1000
    states, ids = torch.ones(count, WIDTH), torch.zeros(count, dtype=torch.long)
    token_losses(states[:1], ids[:1], head).sum().backward()
    expected = head.weight.grad * count
    head.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = tiled_token_losses(states, ids, head, tile=1)
    assert losses.dtype == torch.float32
    losses.sum().backward()
    torch.testing.assert_close(head.weight.grad, expected, rtol=0.03, atol=0.5)


def test_what_is_behind_an_end_counts_nothing_and_every_token_counts_alike():
    torch.manual_seed(0)
    objective = build_objective(CONFIGS["coca"], build(model_config("coca"))).double()
    data = batch(objective.views, 3)
    features = objective.features(data)
    model, ids = objective.model, data.texts[0]
    logits = model.next_tokens(ids, model.read_pictures(data.images[0]))
    singly = []
    for row, length in enumerate(data.lengths[0].host):
        assert length < CONTEXT
        for place in range(1, length):  # the first id, the start, is given
            singly.append(-logits[row, place - 1].log_softmax(0)[ids[row, place]])
    found = captioning(features["losses"], features["tokens"])
    torch.testing.assert_close(found, torch.stack(singly).mean())
    assert features["tokens"].sum() == len(singly)


def test_what_it_needs_is_said():
    with pytest.raises(ConfigError, match="trains a decoder, and this model has none"):
        build_objective(CocaObjectiveConfig(), build(small_config()))
    objective = build_objective(CONFIGS["coca"], build(model_config("coca")))
    ids = torch.ones(2, 3, dtype=torch.long)
    data = Batch(images=(torch.zeros(2, 3, 16, 16),), texts=(ids,), index=torch.arange(2))
    with pytest.raises(ConfigError, match="how long its captions are: give it `lengths`"):
        objective(data)
