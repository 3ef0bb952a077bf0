"""Two real processes against one: the same weights after several steps, resumed on another number
too."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diptych.config import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    SiglipObjectiveConfig,
    TowerOptions,
)
from diptych.distributed import Peers
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.training import fit, load_run, read_metrics
from tests.distributed.harness import run_processes
from tests.training.runs import COMPOSED, MODEL, STEM, WORDY, small_run

PLAIN = MODEL.image
CONVNET = UniRepLKNetConfig(
    image_size=16,
    depths=(1, 1, 1, 1),
    widths=(8, 8, 16, 16),
    kernel_sizes=((3,), (7,), (13,), (3,)),
    layer_scale=0.5,
)
CASES = {
    "clip": {},
    "micro-batches": {"micro_batch": 2},
    "siglip": {"objective": SiglipObjectiveConfig()},
    "batch normalisation": {"model": ModelConfig(custom=replace(MODEL, image=STEM))},
    "large kernels": {
        "model": ModelConfig(
            custom=replace(MODEL, image=CONVNET), image=TowerOptions(checkpointing=True)
        ),
        # Biases before a batch norm have a gradient of rounding errors, which a small eps would
        # make into whole steps.
        "optim": OptimConfig(lr=1e-3, warmup=2, max_norm=1.0, eps=1e-3),
    },
    # SimSiam's batch norms make much of rounding errors where the outputs of few samples are nearly
    # equal.
    "masked words, views, queue": {
        "objective": COMPOSED["defilip"],
        "model": ModelConfig(custom=replace(WORDY, image=PLAIN)),
        "optim": OptimConfig(lr=1e-3, warmup=2, max_norm=1.0, eps=1e-3),
    },
    "mixture": {
        "data": DataConfig(path="synthetic:13::synthetic:7", upsample=(1.0, 2.0), workers=0),
        "steps": 2,
    },
    "average, measured on the way": {
        "ema": 0.5,
        "evaluation": EvaluationConfig(path="synthetic:13", pairs="synthetic:13", every_steps=2),
        "steps": 4,
    },
}


def plan(out: Path, name: str):
    base = ModelConfig(
        custom=replace(MODEL, image=PLAIN, logit_bias=-10.0 if name == "siglip" else None)
    )
    return small_run(out, **{"model": base, "steps": 3} | CASES[name])


def train(peers: Peers, runs: list, resume: bool) -> list[Path]:
    """Every process trains all runs, and gives the same folders."""
    return [fit(run, resume=resume, progress=False) for run in runs]


def assert_close(one: Path, other: Path) -> None:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    for name, tensor in first.items():
        torch.testing.assert_close(
            tensor.float(), second[name].float(), rtol=0, atol=2e-5, msg=name
        )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Case -> the checkpoints of one process and of two."""
    root = tmp_path_factory.mktemp("runs")
    alone = [fit(plan(root / f"one-{name}", name), progress=False) for name in CASES]
    both = run_processes(2, train, [plan(root / f"two-{name}", name) for name in CASES], False)
    assert both[0] == both[1]
    return dict(zip(CASES, zip(alone, both[0])))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one_does(pairs, name):
    assert_close(*pairs[name])


def test_two_processes_measure_what_one_does(pairs):
    alone, both = (
        [row for row in read_metrics(folder.parent.parent / "metrics.jsonl") if "val/loss" in row]
        for folder in pairs["average, measured on the way"]
    )
    assert len(alone) == 2
    for one, other in zip(alone, both, strict=True):
        losses = one.pop("val/loss"), other.pop("val/loss")
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert one == other


def test_a_run_of_two_processes_goes_on_with_one(pairs):
    alone, both = pairs["clip"]
    longer = replace(load_run(alone.parent.parent), steps=5)
    shared = replace(load_run(both.parent.parent), steps=5)
    assert_close(fit(longer, resume=True, progress=False), fit(shared, resume=True, progress=False))
