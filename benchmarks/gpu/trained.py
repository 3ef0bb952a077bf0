"""Whole runs on this device: sharded, resumed, and the tests that need a GPU."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed import (
    HashStore,  # pyright: ignore[reportPrivateImportUsage]: documented, and not exported
)
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from benchmarks.gpu import inner
from benchmarks.gpu.setting import Row, Setting, error_of, lacks, within
from diptych import pretrained
from diptych.config import ClipObjectiveConfig
from diptych.distributed import Peers, local

ROOT = Path(__file__).parents[2]
FIT = """
import sys, torch
import diptych
from diptych.config import DataConfig, ModelConfig, OptimConfig, Run, SaveConfig, TowerOptions
out, steps, how = sys.argv[1:4]
if how == "deterministic":
    torch.use_deterministic_algorithms(True, warn_only=True)
run = Run(model=ModelConfig(name="tiny-32", image=TowerOptions(patch_dropout=0.25)),
          data=DataConfig(path="synthetic:64", workers=2), save=SaveConfig(every_steps=3),
          optim=OptimConfig(lr=1e-3, warmup=2, max_norm=1.0, schedule="constant"),
          batch_size=16, steps=int(steps), precision="bf16", out=out)
diptych.fit(run, resume=True, progress=False)
"""


def sharded(setting: Setting) -> Iterator[Row]:
    """FSDP2 over NCCL, alone: the loss of three steps, and a state that is saved and comes back."""
    name = setting.pick("tiny", "eva02-clip-b-16")
    config, objective_config = pretrained.get(name), ClipObjectiveConfig()
    batch = inner.batch_of(config, objective_config, setting.pick(4, 32)).to(setting.device)
    peers = Peers(device=setting.device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if setting.is_cuda else "gloo",
        store=HashStore(),
        rank=0,
        world_size=1,
    )
    losses = list[torch.Tensor]()
    for is_sharded in (False, True):
        objective = inner.objective_of(objective_config, config)
        if is_sharded:
            inner.shard(objective, setting)
        objective.to(setting.device)
        optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3, fused=True)

        def step() -> torch.Tensor:
            with torch.autocast(setting.device.type, torch.bfloat16):
                total = objective(batch, peers).total  # noqa: B023
            total.backward()
            optimizer.step()  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            return total

        losses.append([step() for _ in range(3)][-1])
        form = "sharded over one" if is_sharded else "whole"
        yield {"name": f"{name}, step, {form}", "ms": setting.milliseconds(step, 5, 0)}
    yield within("FSDP2 over one: loss of the third step", error_of(losses[1], losses[0]), 2e-2)
    before = {n: p.detach().clone() for n, p in objective.named_parameters()}
    with tempfile.TemporaryDirectory() as folder:
        model, moments = get_state_dict(objective, optimizer)
        save({"model": model, "optimizer": moments}, checkpoint_id=folder)
        step()
        model, moments = get_state_dict(objective, optimizer)
        load({"model": model, "optimizer": moments}, checkpoint_id=folder)
        set_state_dict(objective, optimizer, model_state_dict=model, optim_state_dict=moments)
    same = [torch.equal(local(p), local(before[n])) for n, p in objective.named_parameters()]
    yield {"name": "saved shards come back", "ok": all(same)}
    dist.destroy_process_group()


def resumed(setting: Setting) -> Iterator[Row]:
    """Six steps beside three and three more, bit for bit; and six steps once more."""
    for how in ("default", "deterministic"):
        with tempfile.TemporaryDirectory() as folder:
            whole, parts, again = (f"{folder}/{name}" for name in ("whole", "parts", "again"))
            for wave in ([(whole, 6), (parts, 3), (again, 6)], [(parts, 6)]):
                started = [
                    subprocess.Popen([sys.executable, "-c", FIT, out, str(steps), how])
                    for out, steps in wave
                ]
                codes = [process.wait() for process in started]
                assert not any(codes), f"diptych.fit ended with {codes}: see log.txt"
            differ = {name: _different(whole, name) for name in (parts, again)}
        yield {
            "name": f"resumed bit for bit, {how} kernels",
            "tensors_that_differ": differ[parts],
            "of_two_equal_runs": differ[again],
            "ok": not differ[parts],
        }


def _different(one: str, other: str) -> int:
    first, second = (
        load_file(Path(run) / "checkpoints/step-00000006/model.safetensors") for run in (one, other)
    )
    return sum(not torch.equal(tensor, second[name]) for name, tensor in first.items())


def marked_tests(setting: Setting) -> Iterator[Row]:
    """`pytest -m gpu`; without a GPU they skip."""
    if row := lacks("pytest", "pytest -m gpu"):
        yield row
        return
    files = [path for path in ROOT.glob("tests/**/test_*.py") if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr[-200:]]
    yield {"name": "pytest -m gpu", "ok": done.returncode == 0, "said": lines[-1]}


CHECKS = (sharded, marked_tests, resumed)
