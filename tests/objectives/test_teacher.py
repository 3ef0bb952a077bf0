"""Teachers within an objective: frozen, in no checkpoint, asked once, shown pictures their own
way."""

from dataclasses import replace

import pytest
import torch

from diptych.batch import Batch, TextLengths
from diptych.config import PreprocessConfig, TokenizerConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import build
from diptych.objectives import Teacher, accumulate, build_objective
from diptych.objectives.teacher import resized
from diptych.optim import decay_groups
from tests.objectives.mimic import MimicConfig
from tests.objectives.small import small_config

CONFIG = MimicConfig(teachers=("one", "two"))


def levels(pairs: int, size: int = 16) -> Batch:
    torch.manual_seed(3)
    ids = torch.randint(1, 30, (pairs, 6))
    return Batch(
        images=(torch.randint(0, 256, (pairs, 3, size, size), dtype=torch.uint8),),
        texts=(ids,),
        index=torch.arange(pairs),
        lengths=(TextLengths.of([6] * pairs),),
        normalise=lambda pixels: pixels.double() / 255,
    )


@pytest.fixture
def objective():
    torch.manual_seed(0)
    config = small_config()
    taught = replace(config, preprocess=PreprocessConfig(mean=(0.5,) * 3, std=(0.5,) * 3))
    model, one, two = build(config), build(config), build(taught)
    return build_objective(CONFIG, model, (one, two)).double()


def test_it_is_frozen_and_stays_so(objective):
    objective.train()
    for teacher in objective.teachers:
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert objective.model.training
    before = [t.clone() for teacher in objective.teachers for t in teacher.tensors().values()]
    accumulate(objective, objective, [levels(4)], Peers())
    after = [t for teacher in objective.teachers for t in teacher.tensors().values()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(t.grad is None for t in after)


def test_no_checkpoint_has_it_and_no_group(objective):
    assert all(name.startswith("model.") for name in objective.state_dict())
    assert {n for n, _ in objective.named_parameters()} > {*objective.state_dict()}
    names = {n for group in decay_groups(objective, frozenset(), 0.1) for n in group.names}
    assert names
    assert not [name for name in names if name.startswith("kept")]


def test_each_sees_the_crop_its_own_way(objective):
    batch, (one, two) = levels(2), objective.teachers
    pixels = batch.images[0].double() / 255
    own = one.config.preprocess
    mean, std = torch.tensor(own.mean).view(3, 1, 1), torch.tensor(own.std).view(3, 1, 1)
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(one.pixels(batch.images[0]), (pixels - mean) / std, **close)
    torch.testing.assert_close(two.pixels(batch.images[0]), pixels * 2 - 1, **close)
    seen = two.see(batch.ready()).pooled
    torch.testing.assert_close(seen, two.image(two.pixels(batch.images[0])).pooled)


@pytest.mark.parametrize("side", [8, 24])
def test_another_size_is_resized(side):
    flat = torch.full((1, 3, 16, 16), 51, dtype=torch.uint8)
    assert resized(flat, side).equal(torch.full((1, 3, side, side), 51, dtype=torch.uint8))
    steep = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    steep[..., 8:] = 255  # bicubic overshoots there
    found = resized(steep, side)
    assert found[..., : side // 2 - 2].max() <= 20
    assert found[..., side // 2 + 2 :].min() >= 235


def test_pictures_that_are_no_levels_are_refused(objective):
    batch = replace(levels(2), normalise=None)
    with pytest.raises(ConfigError, match="as levels"):
        objective(replace(batch, images=(batch.images[0].double(),)), Peers())


def test_micro_batches_are_one_batch_and_ask_once(objective):
    calls, batch = [], levels(6)
    for teacher in objective.teachers:
        teacher.image.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for cut in ([(0, 6)], [(0, 2), (2, 4), (4, 6)]):
        objective.zero_grad()
        calls.clear()
        losses = accumulate(objective, objective, [batch.rows(*rows) for rows in cut], Peers())
        grads = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        found.append((losses.total, grads))
        assert len(calls) == 2 * len(cut)
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_other_words_are_refused(objective):
    teacher = Teacher(build(small_config()))
    ours = small_config()
    teacher.check_texts(ours)
    with pytest.raises(ConfigError, match=r"tokenizer \(clip, .* isn't the model's \(declip"):
        teacher.check_texts(replace(ours, tokenizer=TokenizerConfig(kind="declip")))
    longer = replace(ours, text=replace(ours.text, context_length=99))
    with pytest.raises(ConfigError, match="texts of .* tokens, and the model's have 99"):
        teacher.check_texts(longer)
