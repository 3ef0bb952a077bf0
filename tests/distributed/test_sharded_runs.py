"""Runs whose weights are sharded: measured on the way, saved, and gone on with in another mode."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import diptych
from diptych.config import EvaluationConfig, ModelConfig, SaveConfig, ShardConfig, TowerOptions
from diptych.distributed import Peers
from diptych.training import fit, read_metrics
from tests.distributed.harness import run_processes
from tests.training.runs import COMPOSED, MODEL, WORDY, assert_same_bits, small_run, weights

MODES = {mode: ShardConfig(mode=mode) for mode in ("replicate", "zero2", "zero3")}

MEASURED = EvaluationConfig(path="synthetic:13", pairs="synthetic:13", every_steps=2)


def plan(out: Path, shard: ShardConfig, **changes):
    """A tower that is partly frozen, an average, micro-batches."""
    model = ModelConfig(custom=MODEL, image=TowerOptions(unlocked_layers=2))
    run = small_run(out, model=model, ema=0.5, micro_batch=2, steps=4)
    return replace(run, shard=shard, save=SaveConfig(every_steps=2), **changes)


WRITERS = {mode: mode for mode in MODES} | {"as-replicate": "zero3", "as-zero2": "zero3"}
"""A run that goes on with the mode of its name -> the mode of its first two steps."""


def started(peers: Peers, folder: Path) -> None:
    for name, shard in MODES.items():
        fit(plan(folder / f"whole-{name}", shard, evaluation=MEASURED), progress=False)


def gone_on(peers: Peers, folder: Path) -> None:
    for name in WRITERS:
        run = plan(folder / name, MODES[name.removeprefix("as-")])
        fit(run, resume=True, progress=False)


def halved(folder: Path, name: str, writer: str) -> None:
    """The run of that mode as it was after two of its four steps."""
    shutil.copytree(folder / f"whole-{writer}", folder / name)
    shutil.rmtree(last(folder / name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    fit(plan(folder / "one", MODES["replicate"], evaluation=MEASURED), progress=False)
    run_processes(2, started, folder)
    for name, writer in (WRITERS | {"as-one": "zero3"}).items():
        halved(folder, name, writer)
    run_processes(2, gone_on, folder)
    fit(plan(folder / "as-one", MODES["zero3"]), resume=True, progress=False)
    return folder


def last(folder: Path) -> Path:
    return max((folder / "checkpoints").iterdir())


@pytest.mark.parametrize("mode", MODES)
def test_gone_on_with_in_the_same_mode_it_is_the_same_bit_for_bit(folder, mode):
    assert_same_bits(last(folder / mode), last(folder / f"whole-{mode}"))


@pytest.mark.parametrize("name", [*(f"whole-{mode}" for mode in MODES), "as-one", "as-replicate"])
def test_weights_average_and_moments_are_those_of_one_process(folder, name):
    expected, found = weights(last(folder / "one")), weights(last(folder / name))
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=2e-5, msg=f"{name} {key}")


@pytest.mark.parametrize("mode", ["replicate", "zero2"])
def test_zero3_goes_on_as_another_mode(folder, mode):
    expected, found = weights(last(folder / f"whole-{mode}")), weights(last(folder / f"as-{mode}"))
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-6, msg=f"{mode} {key}")


@pytest.mark.parametrize("mode", MODES)
def test_the_average_is_measured_in_every_mode(folder, mode):
    one, many = (
        [row for row in read_metrics(folder / name / "metrics.jsonl") if "val/loss" in row]
        for name in ("one", f"whole-{mode}")
    )
    assert len(one) == 2
    for expected, row in zip(one, many, strict=True):
        losses = expected.pop("val/loss"), row.pop("val/loss")
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)
        assert row == expected


def test_a_checkpoint_of_shards_is_a_model(folder):
    model = diptych.load(folder / "whole-zero3").model
    ours = load_file(last(folder / "one") / "model.safetensors")
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, ours[key], rtol=0, atol=2e-5, msg=key)


def test_the_mode_is_part_of_the_record(folder):
    assert json.loads((folder / "as-zero2" / "run.json").read_text())["shard"]["mode"] == "zero2"
    lines = (folder / "as-zero2" / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["changes"]["shard.mode"] == ["zero3", "zero2"]


def composed(peers: Peers, run) -> None:
    fit(run, progress=False)


def test_heads_and_a_queue_start_as_in_one_process(tmp_path):
    model = ModelConfig(custom=replace(WORDY, image=MODEL.image))
    one = small_run(tmp_path / "one", model=model, objective=COMPOSED["defilip"], steps=1)
    two = replace(one, out=str(tmp_path / "two"), shard=MODES["zero3"])
    fit(one, progress=False)
    run_processes(2, composed, two)
    expected, found = weights(last(tmp_path / "one")), weights(last(tmp_path / "two"))
    assert found.keys() == expected.keys()
    for key in ("objective/queue.rows", "objective/word_head.weight"):
        # AdamW's first step is of one size: what moved the other way would be off by two of them.
        difference = (found[key] - expected[key]).abs()
        assert difference.mean() < 1e-4, key
