"""What holds for every composed objective: gradients, micro-batches, no masked words, what the
queue remembers."""

import math
from dataclasses import replace

import pytest
import torch

from diptych.batch import Views
from diptych.config import DeclipObjectiveConfig, FilipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.families.declip.published_config import (
    PublishedClipObjectiveConfig,
    PublishedDeclipObjectiveConfig,
    PublishedFilipObjectiveConfig,
    PublishedTokenPairsConfig,
)
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.models import build
from diptych.objectives import DeclipObjective, accumulate, build_objective
from diptych.objectives.contrastive import build_contrastive
from tests.objectives.composed import CONFIGS, CONTEXT, batch, model_config
from tests.objectives.small import small_config

every = pytest.mark.parametrize("name", CONFIGS)


def make(name, dtype=torch.float64):
    torch.manual_seed(0)
    return build_objective(CONFIGS[name], build(model_config(name))).to(dtype).train()


@every
def test_a_gradient_reaches_every_trained_parameter(name):
    objective = make(name)
    objective(batch(objective.views, 6), Peers()).total.backward()
    for key, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    if objective.model.image_tokens is not None:
        assert objective.model.image_tokens.weight.requires_grad == ("filip" in name)


@pytest.mark.parametrize(
    "name", [name for name in CONFIGS if "declip" in name or "defilip" in name]
)
def test_only_the_captions_whose_tokens_are_read_have_tokens(name):
    objective, lengths = make(name), []
    objective.model.text.register_forward_hook(
        lambda module, inputs, output: lengths.append(output.tokens.shape[1])
    )
    objective(batch(objective.views, 6), Peers())
    with_tokens = [length > 0 for length in lengths]
    expected = [view == "masked" for view in objective.views.text]
    if "defilip" in name:
        expected[0] = True
    assert with_tokens == expected


@every
def test_micro_batches_give_the_gradient_of_the_whole(name):
    whole, parts = make(name), make(name)
    torch.manual_seed(1)
    data = batch(whole.views, 6)
    one = accumulate(whole, whole, [data], Peers())
    other = accumulate(parts, parts, [data.rows(0, 2), data.rows(2, 4), data.rows(4, 6)], Peers())
    torch.testing.assert_close(one.total, other.total)
    for (key, a), b in zip(whole.named_parameters(), parts.parameters()):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=key)
    for (key, a), b in zip(whole.named_buffers(), parts.buffers()):
        assert torch.equal(a, b) or torch.allclose(a, b), key


@every
def test_a_step_under_autocast(name):
    objective = make(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective(batch(objective.views, 6, torch.float32), Peers())
    losses.total.backward()
    objective.before_step()
    objective.after_step(losses.carry)
    assert losses.total.dtype == torch.float32
    assert all(value.isfinite() for value in losses.metrics.values())


def test_no_masked_words_are_no_trouble():
    objective = make("declip")
    data = batch(objective.views, 4)
    losses = objective(replace(data, mlm_labels=torch.full_like(data.mlm_labels, -100)), Peers())
    assert losses.metrics["words"] == 0
    losses.total.backward()
    assert objective.word_head.weight.grad is not None


def test_the_queue_remembers_after_the_step_and_goes_round():
    objective = make("declip")
    assert isinstance(objective, DeclipObjective)
    before = objective.queue.rows.clone()
    for step in range(1, 4):
        losses = objective(batch(objective.views, 3), Peers())
        assert int(objective.queue.place) == 6 * (step - 1) % 16
        objective.after_step(losses.carry)
        assert int(objective.queue.place) == 6 * step % 16
    assert not (objective.queue.rows == before).all(dim=1).any()


def test_options_say_which_views_are_wanted():
    masked = PublishedDeclipObjectiveConfig(queue=16)
    assert build_objective(masked, build(small_config())).views.text == ("masked", "augmented")
    plain = replace(masked, contrast_masked=False)
    assert build_objective(plain, build(small_config())).views.text == (
        "plain",
        "augmented",
        "masked",
    )
    masked = build_objective(PublishedFilipObjectiveConfig(), build(model_config("filip")))
    assert masked.views == Views(image=("strong",), text=("masked",), whole_length=True)
    assert make("filip").views == Views(image=("strong",), text=("plain",), whole_length=True)
    # All words of everybody are as many only where the padding stays.
    assert make("filip, all tokens, no padding").views.whole_length
    assert not make("filip, many tokens, no padding").views.whole_length
    assert make("defilip").views.text == ("plain", "augmented", "masked")


def test_tokens_need_a_space_of_their_own():
    with pytest.raises(ConfigError, match="token_dim"):
        build_objective(FilipObjectiveConfig(), build(small_config()))


def test_a_limited_scale_has_the_unlimited_ones_gradient():
    model = build(small_config())
    model.logit_scale.data.fill_(5.0)
    config = PublishedClipObjectiveConfig(largest_scale_used=100.0, max_logit_scale=500.0)
    scale = build_contrastive(config, model).scale()
    scale.backward()
    assert scale.item() == pytest.approx(100)
    assert model.logit_scale.grad.item() == pytest.approx(torch.tensor(5.0).exp().item())


def test_padding_takes_no_part_where_it_is_masked():
    objective = make("filip, all tokens, no padding")
    data = batch(objective.views, 4)
    ends = data.texts[0].argmax(dim=1, keepdim=True)
    other = torch.where(torch.arange(CONTEXT) > ends, 1, data.texts[0])
    changed = replace(data, texts=(other,))
    torch.testing.assert_close(objective(data, Peers()).total, objective(changed, Peers()).total)


@every
def test_a_loss_changes_nothing_but_running_means(name):
    objective = make(name)
    before = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    objective(batch(objective.views, 6), Peers()).total.backward()
    for key, tensor in objective.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(tensor, before[key]), key


def test_scales_are_clamped_before_the_step_where_that_was_published():
    limits = {"min_logit_scale": 1.0, "max_logit_scale": 50.0}
    pairs = PublishedClipObjectiveConfig(**limits)
    tokens = PublishedTokenPairsConfig(**limits)
    config = PublishedFilipObjectiveConfig(pairs=pairs, tokens=tokens)
    once = replace(
        config,
        pairs=replace(pairs, clamp_before_step=False),
        tokens=replace(tokens, clamp_before_step=False),
    )
    for chosen, kept in ((config, math.log(50)), (once, 7.0)):
        objective = build_objective(chosen, build(model_config("filip")))
        scales = [objective.model.logit_scale, objective.tokens.logit_scale]
        for scale in scales:
            torch.nn.init.constant_(scale, 7.0)
        objective.before_step()
        assert [scale.item() for scale in scales] == pytest.approx([kept, kept])
        objective.after_step({})
        assert [scale.item() for scale in scales] == pytest.approx([math.log(50)] * 2)


def test_a_text_tower_of_another_library_is_refused():
    model = build(small_config())
    text = HuggingFaceTextConfig(model_type="bert")
    model.config = replace(model.config, text=text)
    with pytest.raises(ConfigError, match="masks words of Diptych's own text tower"):
        build_objective(DeclipObjectiveConfig(), model)
