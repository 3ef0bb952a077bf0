"""EVA-CLIP's recipes against the published table, and the job for Slurm that they come with."""

import re
import shlex
import subprocess
from dataclasses import replace

import pytest
from torch.distributed.run import get_args_parser

from diptych import pretrained, recipes
from diptych.cli.train_flags import typed
from diptych.config.serialize import override
from diptych.families.eva import recipes as module
from diptych.training.plan import Machines, plan

# As the README's table has them: samples in billions, GPUs x batch of each, image tower's and text
# tower's rate and layer decay, dropped patches, precision.
TABLE = {
    "eva01-clip-g-14-plus": (11, 112 * 1024, 4e-4, 4e-5, 0.85, 0.75, 0.5, "fp16"),
    "eva02-clip-b-16": (8, 64 * 2048, 2e-4, 2e-5, 0.75, 0.75, 0, "fp16"),
    "eva02-clip-l-14": (4, 128 * 1024, 4e-4, 4e-5, 0.85, 0.75, 0, "fp16"),
    "eva02-clip-l-14-336": (2, 128 * 480, 4e-4, 4e-5, 0.75, 0.65, 0, "fp16"),
    "eva02-clip-e-14": (4, 144 * 800, 4e-4, 4e-5, 0.9, 0.75, 0.5, "fp16"),
    "eva02-clip-e-14-plus": (9, 144 * 1000, 4e-4, 4e-5, 0.9, 0.75, 0.5, "bf16"),
    "eva-clip-8b": (9, 384 * 464, 4e-4, 4e-5, 0.9, 0.75, 0.5, "bf16"),
    "eva-clip-8b-448": (0.6, 384 * 64, 2e-4, 4e-5, 0.9, 0.75, 0, "bf16"),
    "eva-clip-18b": (6, 360 * 300, 4e-4, 4e-5, 0.9, 0.75, 0.5, "bf16"),
}


@pytest.mark.parametrize("name", TABLE)
def test_recipes_are_the_published_table(name):
    run, row = recipes.get(name), TABLE[name]
    image, text = run.model.image, run.model.text
    assert run.model.name == name
    assert abs(run.steps * run.batch_size / 1e9 - row[0]) < 1e-3
    assert (run.batch_size, image.lr, text.lr, image.layer_decay, text.layer_decay) == row[1:6]
    assert (image.patch_dropout, run.precision) == row[6:]
    assert (run.optim.name, run.optim.warmup, run.optim.max_norm) == ("lamb-deepspeed", 2000, 5.0)
    big = name.startswith("eva-clip")
    assert run.optim.weight_decay == (0 if big else 0.05)
    assert run.optim.betas == ((0.9, 0.95) if big else (0.9, 0.98))
    assert run.optim.scale_lr == (0 if big else 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eva01-clip-g-14", *TABLE])
def test_the_published_hardware_holds_it(name):
    """In the recipe's own way of sharding."""
    about = getattr(module, name.replace("-", "_")).__doc__
    gpus, memory = map(int, re.search(r"Hardware: (\d+) GPUs of (\d+) GB", about).groups())
    run = recipes.get(name)
    run = replace(run, model=replace(run.model, init=""))  # a second stage's name says as much
    [device] = plan(run, Machines(gpus=gpus, memory=float(memory)), (run.shard.mode,)).devices
    assert device.fits == run.batch_size // gpus


@pytest.mark.parametrize("name", ["eva01-clip-g-14", *TABLE])
def test_towers_start_from_what_the_table_names(name):
    run = recipes.get(name)
    if run.model.init:  # a second stage
        assert run.model.init in {recipes.get(first).out for first in TABLE}
        assert not run.model.image.init
        return
    said = pretrained.entry(name).training
    assert run.model.image.init == said.image_init
    assert pretrained.weights(run.model.image.init)
    known = pretrained.repository(run.model.text.init) or pretrained.weights(run.model.text.init)
    assert known


def test_the_job_for_slurm_can_run(tmp_path):
    text = module.__doc__.partition("again:\n")[2]
    lines = [line.removeprefix("    ") for line in text.strip("\n").splitlines()]
    (tmp_path / "job.sh").write_text("\n".join(lines))
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    asked = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert asked["ntasks-per-node"] == "1"  # torchrun starts a process for each GPU
    command = shlex.split("\n".join(lines).replace("\\\n", "").partition("srun ")[2])
    assert command.pop(0) == "torchrun"
    launch = get_args_parser().parse_args(command)
    assert (launch.module, launch.training_script) == (True, "diptych")
    assert launch.nproc_per_node == asked["gpus-per-node"]
    verb, name, *flags = launch.training_script_args
    flags.remove("--resume-if-any")
    assert (verb, name) == ("train", asked["job-name"])
    run = recipes.get(name)
    for path, value in typed(flags).items():
        run = override(run, path, value)
    assert run.data.path.count("::") == 1
    # The docstring's hardware is the table's.
    assert int(asked["nodes"]) * int(asked["gpus-per-node"]) == run.batch_size // 2048
