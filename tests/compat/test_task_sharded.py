"""A task over two processes that have a share of the weights each, beside one alone."""

from types import SimpleNamespace

import pytest
import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.nn.parallel import DistributedDataParallel

from diptych import compat
from diptych.compat.open_clip_train.evaluate import evaluate
from diptych.compat.task import load_checkpoint, save_checkpoint
from diptych.errors import ConfigError
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.models import build
from tests.compat.sections import TEXT, VISION
from tests.distributed.harness import run_processes

EVA = {
    **VISION,
    "head_width": 16,
    "width": 32,
    "mlp_ratio": 2.6667,
    "eva_model_name": "eva-clip-b-16-X",
    "rope": True,
    "pt_hw_seq_len": 16,
    "intp_freq": True,
    "naiveswiglu": True,
    "subln": True,
}


def made(vision):
    torch.manual_seed(0)
    content = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT}
    clip = build(from_json({"model_cfg": content}))
    return compat.CLIP.of(clip, output_dict=True).double()


def pairs(count=4):
    torch.manual_seed(5)
    image = torch.rand(count, 3, 32, 32, dtype=torch.float64)
    return {"image": image, "text": torch.randint(1, 60, (count, 8))}


def trained(vision, rank, size, path):
    """Two steps, with the rows of one of `size` processes, the second one after a file."""
    model = made(vision)
    task = compat.CLIPTask(
        model, local_loss=True, gather_with_grad=True, rank=rank, world_size=size
    )
    task.setup_ema(0.5).prepare_fsdp(reshard_after_forward=False)
    saved = []
    for epoch in (1, 2):
        optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.5, momentum=0.9)
        if saved:
            load_checkpoint(task, path, optimizer)
        rows = slice(rank * 4 // size, (rank + 1) * 4 // size)
        losses, _ = task.train()({name: each[rows] for name, each in pairs().items()})
        losses["loss"].backward()
        optimizer.step()
        task.clamp_logit_scale()
        task.update_ema()
        saved.append(save_checkpoint(task, optimizer, epoch))
        if rank == 0:
            torch.save(saved[-1], path)
        if size > 1:
            torch.distributed.barrier()
    return task, saved[-1]


def measured(task, rank, size):
    """The pairs are in the first process alone."""
    args = {"device": "cpu", "precision": "fp32", "rank": rank, "world_size": size}
    args |= {"fsdp": True, "distributed": size > 1, "val_frequency": 1, "zeroshot_frequency": 0}
    loader = [pairs(3), pairs(2)] if rank == 0 else []
    data = {"val": SimpleNamespace(dataloader=loader)}
    return evaluate(task, data, 1, SimpleNamespace(**args, epochs=1, wandb=False))


def _share(peers, vision, path):
    task, saved = trained(vision, peers.rank, peers.size, path)
    own = sum(p.to_local().numel() for p in task.trainable_module.parameters())
    return saved, own, measured(task, peers.rank, peers.size)


@pytest.mark.parametrize(
    "vision",
    [VISION, pytest.param(EVA, marks=pytest.mark.slow)],
    ids=["own blocks", "renamed"],
)
def test_shares_train_as_one(vision, tmp_path):
    task, alone = trained(vision, 0, 1, tmp_path / "alone.pt")
    shares = run_processes(2, _share, vision, tmp_path / "shared.pt")
    whole = sum(p.numel() for p in made(vision).parameters())
    assert all(own < 0.6 * whole for _, own, _ in shares)
    for saved, _, _ in shares:
        for part in ("state_dict", "state_dict_ema"):
            assert saved[part].keys() == alone[part].keys()
            for name, tensor in alone[part].items():
                assert saved[part][name].shape == made(vision).state_dict()[name].shape
                torch.testing.assert_close(saved[part][name], tensor.view_as(saved[part][name]))
        for place, state in alone["optimizer"]["state"].items():
            mine = saved["optimizer"]["state"][place]["momentum_buffer"]
            torch.testing.assert_close(mine, state["momentum_buffer"])
    assert shares[0][2] == pytest.approx(measured(task, 0, 1))
    assert shares[1][2] == {}


def test_what_cannot_be_shared_is_refused():
    task = compat.CLIPTask(made(VISION))
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        task.prepare_fsdp(mp_policy=MixedPrecisionPolicy(param_dtype=torch.float16))
    with pytest.raises(ConfigError, match="one row; leave it out"):
        task.prepare_fsdp(mesh=torch.zeros(2, 2))
    task.prepare_fsdp(grad_checkpointing=True)
    assert task.trainable_module.logit_scale.shape == (1,)
    assert task.state_dict()["state_dict"]["logit_scale"].shape == ()
    with pytest.raises(AssertionError, match="EMA must be set up before"):
        task.setup_ema()
    with pytest.raises(ConfigError, match="not both"):
        task.prepare_distributed()
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    torch.nn.Module.__init__(wrapped)
    task.trainable_module = wrapped
    with pytest.raises(ConfigError, match="not both"):
        task.prepare_fsdp()
