"""`--compile`: how many graphs, on shards too, and never uncompiled unsaid. In processes of their
own: the shape checks of these tests can't be compiled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch._dynamo
from torch import nn

from diptych.config import EvaluationConfig, ModelConfig, SaveConfig, ShardConfig
from diptych.distributed import Peers, shard
from diptych.errors import TrainingError
from diptych.families.eva import EvaConfig
from diptych.training import fit, read_metrics
from tests.distributed.harness import run_processes
from tests.training.runs import COMPOSED, MODEL, WORDY, small_run, weights

DEEP = replace(MODEL, image=replace(MODEL.image, layers=3), text=replace(MODEL.text, layers=3))
EVA = EvaConfig(
    image_size=16, patch_size=8, width=32, layers=3, heads=2, mlp_width=64, rotary_grid=2
)
PLAIN = ModelConfig(custom=MODEL)
"""Without patch dropout, which every process draws for itself."""
MODELS = {"clip": DEEP, "eva": replace(DEEP, image=EVA), "declip": WORDY}


def counting(backend):
    """Have blocks compiled by `backend`; a list that grows with the graphs."""
    graphs, real = [], nn.Module.compile

    def made(graph, inputs):
        graphs.append(graph)
        return backend(graph, inputs)

    nn.Module.compile = lambda module, **options: real(module, backend=made, **options)
    return graphs


def as_it_is(graph, inputs):
    return graph.forward


def graphs_of(peers: Peers, out: Path, name: str) -> int:
    graphs = counting(as_it_is)
    measured = EvaluationConfig(path="synthetic:12", pairs="synthetic:12", every_steps=5)
    model, save = ModelConfig(custom=MODELS[name]), SaveConfig(every_steps=0)
    run = small_run(out, model=model, save=save, evaluation=measured, compile=True, steps=10)
    if name in COMPOSED:
        run = replace(run, objective=COMPOSED[name])
    fit(replace(run, micro_batch=3), progress=False)
    return len(graphs)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_few_graphs_for_captions_of_many_lengths(tmp_path, name):
    """Micro-batches of 3, 3 and 2 pairs, and evaluations between: nothing else is compiled anew."""
    [graphs] = run_processes(1, graphs_of, tmp_path / "run", name)
    assert 0 < graphs <= 12


def too_many(peers: Peers, out: Path) -> str:
    counting(as_it_is)
    torch._dynamo.config.recompile_limit = shard.GRAPHS = 2
    with pytest.raises(TrainingError) as error:
        fit(small_run(out, compile=True), progress=False)
    return str(error.value)


def broken(peers: Peers, out: Path) -> str:
    def fails(graph, inputs):
        raise RuntimeError("no C++ compiler was found")

    counting(fails)
    with pytest.raises(TrainingError) as error:
        fit(small_run(out, compile=True), progress=False)
    return str(error.value)


def test_what_cannot_be_compiled_is_said(tmp_path):
    [said] = run_processes(1, too_many, tmp_path / "many")
    assert said.startswith("--compile: a block couldn't be compiled in step 1 of 12 (")
    [said] = run_processes(1, broken, tmp_path / "broken")
    assert said == (
        "--compile: a block couldn't be compiled in step 1 of 12 (backend='made' raised: "
        "RuntimeError: no C++ compiler was found); "
        "without --compile the run trains, more slowly"
    )
    assert not (tmp_path / "broken").exists()


def trained(peers: Peers, folder: Path, shard: ShardConfig) -> int:
    graphs = counting(as_it_is)
    run = small_run(folder / shard.mode, steps=4, shard=shard, model=PLAIN)
    fit(replace(run, compile=True, micro_batch=2), progress=False)
    return len(graphs)


@pytest.mark.parametrize(
    "mode", [*(pytest.param(n, marks=pytest.mark.slow) for n in ("replicate", "zero2")), "zero3"]
)
def test_compiled_on_shards_it_trains_as_one_process_does(tmp_path, mode):
    fit(small_run(tmp_path / "one", steps=4, model=PLAIN), progress=False)
    assert min(run_processes(2, trained, tmp_path, ShardConfig(mode=mode))) > 0
    one, many = (weights(next(tmp_path.glob(f"{name}/checkpoints/*4"))) for name in ("one", mode))
    for name, tensor in one.items():
        torch.testing.assert_close(many[name], tensor, rtol=0, atol=1e-4, msg=name)


def in_float16(peers: Peers, folder: Path, modes: tuple[str, ...]) -> None:
    for mode in modes:
        run = small_run(folder / mode, steps=4, shard=ShardConfig(mode=mode), model=PLAIN)
        fit(replace(run, precision="fp16"), progress=False)


def test_float16_on_shards_skips_the_same_steps(tmp_path):
    """An overflow in one shard is everybody's. (One process overflows in other steps than two.)"""

    def seen(name):
        losses = [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")]
        [progress] = tmp_path.glob(f"{name}/checkpoints/*4/training.json")
        return losses, json.loads(progress.read_text())["scaler"]["scale"]

    run_processes(2, in_float16, tmp_path, ("replicate", "zero2", "zero3"))
    expected, as_copies = seen("replicate")
    for mode in ("zero2", "zero3"):
        losses, scale = seen(mode)
        assert losses == pytest.approx(expected, rel=0.02)
        assert scale == as_copies < 65536  # torch's first one, which is too high here
