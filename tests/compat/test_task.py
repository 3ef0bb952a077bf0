"""A model and its loss as one module, by what open_clip's own tests ask of tasks."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diptych import compat
from diptych.compat.task import (
    CLIPTask,
    DistillCLIPTask,
    SigLIPTask,
    load_checkpoint,
    save_checkpoint,
    unwrap_model,
)
from diptych.errors import CheckpointError, ConfigError
from tests.compat.sections import TEXT, VISION

PAIRS = {"image": torch.rand(3, 3, 32, 32), "text": torch.randint(1, 60, (3, 8))}


def tiny(**options):
    torch.manual_seed(0)
    return compat.CLIP(32, VISION, TEXT, output_dict=True, **options)


def test_a_batch_may_be_given_in_each_way():
    task = CLIPTask(tiny()).train()
    losses, report = task(PAIRS)
    ways = [
        task(PAIRS["image"], PAIRS["text"]),
        task(**PAIRS),
        task(PAIRS["image"], text=PAIRS["text"]),
    ]
    assert all(torch.equal(way[0]["loss"], losses["loss"]) for way in ways)
    assert report["logit_scale"].item() == pytest.approx(1 / 0.07)
    assert "text_features" in task.eval()(PAIRS)


def test_losses_are_the_objectives():
    model = tiny(init_logit_bias=-10.0)
    output = model(**PAIRS)
    loss = SigLIPTask(model).train()(PAIRS)[0]["loss"]
    assert loss.item() == pytest.approx(compat.SigLipLoss()(**output).item())
    student, teacher = tiny(), tiny()
    task = DistillCLIPTask(student, teacher).train()
    losses, _ = task(PAIRS)
    assert losses["loss"] == losses["contrastive_loss"] + losses["distill_loss"]
    losses["loss"].backward()
    assert student.visual.conv1.weight.grad is not None
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.training


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, CLIPTask),
        ({"siglip": True}, SigLIPTask),
        ({"distill": True, "siglip": True}, DistillCLIPTask),
    ],
)
def test_arguments_choose_the_task(changes, kind):
    model = tiny()
    args = SimpleNamespace(model="ViT-B-32", rank=3, world_size=8, **changes)
    task = compat.create_task(args, model=model, dist_model=tiny())
    assert type(task) is kind
    assert task.trainable_module is model
    assert (task.loss.rank, task.loss.world_size) == (3, 8)


def test_what_has_no_task_is_refused():
    with pytest.raises(ConfigError, match="teacher"):
        compat.create_task(SimpleNamespace(distill=True), model=tiny())


def test_batches_are_prepared():
    task, half = CLIPTask(tiny()), torch.float16
    made = task.prepare_batch(PAIRS | {"more": {"a": torch.rand(2)}, "key": "b"}, None, half)
    assert (made["image"].dtype, made["more"]["a"].dtype, made["key"]) == (half, half, "b")
    assert made["text"].dtype == torch.long
    assert task.batch_size(PAIRS) == 3
    zeros = task.create_dummy_batch(image_size=(16, 24), batch_size=2, dtype=half)
    assert zeros["image"].shape == (2, 3, 16, 24)
    assert zeros["text"].shape == (2, 8)


def test_the_scale_is_clamped():
    task = CLIPTask(tiny())
    for value, wanted in ((99.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        task.trainable_module.logit_scale.data.fill_(value)
        task.clamp_logit_scale()
        assert task.trainable_module.logit_scale.item() == pytest.approx(wanted)


def test_weights_are_averaged():
    task = CLIPTask(tiny()).setup_ema(decay=0.75)
    with torch.no_grad():
        task.trainable_module.logit_scale.fill_(1.0)
        task.trainable_module_ema.module.logit_scale.fill_(2.0)
    task.update_ema()
    assert task.state_dict_for_inference()["logit_scale"].item() == pytest.approx(1.75)
    found = task.eval()(PAIRS)
    assert found["logit_scale"].item() == pytest.approx(math.exp(1.75))
    assert found["text_features"].isfinite().all()  # its mask has -inf, which stays as it is


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_loop_goes_on_from_its_file(tmp_path, prefix):
    task = CLIPTask(tiny()).setup_ema(0.9)
    optimizer = torch.optim.AdamW(task.trainable_module.parameters())
    task.train()(PAIRS)[0]["loss"].backward()
    optimizer.step()
    saved = save_checkpoint(task, optimizer, epoch=4, global_step=9)
    saved["state_dict"] = {prefix + name: each for name, each in saved["state_dict"].items()}
    torch.save(saved, tmp_path / "epoch_4.pt")
    other, counters = CLIPTask(tiny()).setup_ema(0.9), {}
    again = torch.optim.AdamW(other.trainable_module.parameters())
    epoch = load_checkpoint(other, tmp_path / "epoch_4.pt", again, metadata=counters)
    assert (epoch, counters) == (4, {"global_step": 9})
    for name, mine in other.state_dict()["state_dict"].items():
        torch.testing.assert_close(mine, task.state_dict()["state_dict"][name])
    assert again.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()


def test_weights_alone_and_scales_of_one_dimension_are_read(tmp_path):
    task, state = CLIPTask(tiny()), tiny().state_dict()
    torch.save(state | {"logit_scale": torch.tensor([1.5])}, tmp_path / "raw.pt")
    assert load_checkpoint(task, tmp_path / "raw.pt") == 0
    assert task.trainable_module.logit_scale.shape == ()
    assert task.trainable_module.logit_scale.item() == 1.5
    wrapped = {name.replace("visual.", "visual._orig_mod."): x for name, x in state.items()}
    task.load_state_dict({"state_dict": {f"_orig_mod.{name}": x for name, x in wrapped.items()}})
    assert task.trainable_module.logit_scale.item() != 1.5
    (tmp_path / "raw.pt").write_bytes(b"no file of torch's")
    with pytest.raises(CheckpointError, match=r"raw\.pt can't be read"):
        load_checkpoint(task, tmp_path / "raw.pt")


@pytest.mark.slow
def test_what_wraps_a_model_is_taken_off():
    model = tiny()
    compiled = torch.compile(model, backend="eager")
    assert unwrap_model(compiled) is model
    assert compat.get_model_from_task(torch.compile(CLIPTask(compiled), backend="eager")) is model
    assert compat.get_model_from_task(nn.DataParallel(copy.copy(model))) is not compiled
