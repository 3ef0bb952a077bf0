"""Pictures of their own aspect are trained on: budgets by step, the same on any number of
processes, resumed bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diptych
from diptych.config import (
    ClipConfig,
    DataConfig,
    DistillObjectiveConfig,
    EvaluationConfig,
    FilipObjectiveConfig,
    ModelConfig,
    PreprocessConfig,
    ShardConfig,
    SiglipObjectiveConfig,
    SlipObjectiveConfig,
    TowerOptions,
)
from diptych.data import Loader, open_source
from diptych.data.budgets import draw_budget
from diptych.errors import ConfigError
from diptych.families.siglip import NaflexImageConfig, SiglipImageConfig
from diptych.inputs import Preprocess, build_tokenizer
from diptych.inputs.native import unpack
from diptych.models import build
from diptych.training import fit, read_metrics
from diptych.training.plan import Machines, plan
from diptych.weights.native import save_model
from tests.distributed.harness import run_processes
from tests.training.runs import MODEL, assert_same_bits, small_run, weights

MODES = {"replicate": ShardConfig(), "zero3": ShardConfig(mode="zero3")}
SIZES = ((40, 24), (9, 60), (33, 33), (70, 20), (12, 13), (50, 48), (20, 64), (31, 17))
BUDGETS = (4, 9, 16)
SMALL = ClipConfig(
    image=NaflexImageConfig(image_size=16, patch_size=4, width=32, layers=2, heads=2, mlp_width=64),
    text=MODEL.text,
    embed_dim=32,
    logit_bias=-10.0,
    preprocess=PreprocessConfig(resize="native", interpolation="bilinear", patch_size=4),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of eight shapes, with captions."""
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        levels = draw.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(levels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number} of noise")
    return folder


def run_of(out: Path, pictures: Path, **changes):
    run = small_run(
        out,
        model=ModelConfig(custom=SMALL, image=TowerOptions(patch_gradient=0.5)),
        objective=SiglipObjectiveConfig(),
        data=DataConfig(path=str(pictures), workers=0, patches=BUDGETS),
        steps=4,
    )
    return replace(run, **changes)


def batches(data: Path, steps=1, **changes):
    config = DataConfig(path=str(data), workers=0, **changes)
    loader = Loader(
        open_source(config),
        config,
        preprocess=Preprocess(SMALL.preprocess, 16),
        tokenizer=build_tokenizer(SMALL.tokenizer, 16),
        batch_size=8,
        steps=steps,
    )
    return list(loader)


def test_a_step_has_one_budget_and_pictures_their_aspect(folder):
    found = batches(folder, patches=BUDGETS, steps=9)
    drawn = [(batch.images[0].shape[2] - 1) // 4 for batch in found]
    assert set(drawn) == set(BUDGETS)
    assert drawn == [draw_budget(BUDGETS, 0, step) for step in range(9)]
    assert drawn != [draw_budget(BUDGETS, 1, step) for step in range(9)]
    for batch, budget in zip(found, drawn, strict=True):
        _, grids = unpack(batch.ready().images[0], 4)
        assert (grids.prod(1) <= budget).all()
        for index, (rows, columns) in zip(batch.index.tolist(), grids.tolist(), strict=True):
            width, height = SIZES[index]
            if width > 2 * height and budget > 4:
                assert columns > rows
    # Without a list it is the model's own.
    assert batches(folder)[0].images[0].shape == (8, 3, 256 * 4 + 1, 4)


def test_micro_batches_and_processes_make_no_difference_and_resuming_none_to_a_bit(
    folder, tmp_path
):
    one = fit(run_of(tmp_path / "one", folder), progress=False)
    rows = read_metrics(tmp_path / "one" / "metrics.jsonl")
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    fit(run_of(tmp_path / "again", folder, steps=2), progress=False)
    again = fit(run_of(tmp_path / "again", folder), resume=True, progress=False)
    assert_same_bits(one, again)
    micro = fit(run_of(tmp_path / "micro", folder, micro_batch=3), progress=False)
    run_processes(2, train_two, tmp_path, folder)
    expected, began = weights(one), weights(fit(run_of(tmp_path / "b", folder, steps=1)))
    for found in (micro, *(tmp_path / mode / "checkpoints" / one.name for mode in MODES)):
        for name, tensor in weights(found).items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=2e-5, msg=name)
    changed = {name for name in expected if not torch.equal(expected[name], began[name])}
    assert {"image.positions", "image.patch.weight", "image.pool.query"} <= changed


def train_two(peers, out, data):
    for mode, shard in MODES.items():
        fit(run_of(out / mode, data, shard=shard, micro_batch=2), progress=False)


def test_it_is_loaded_measured_and_started_from(folder, tmp_path):
    measured = EvaluationConfig(path="synthetic:8", pairs=str(folder), every_steps=2)
    options = TowerOptions(patch_dropout=0.5, checkpointing=True)
    run = run_of(tmp_path / "run", folder, evaluation=measured, precision="bf16")
    run = replace(run, model=replace(run.model, image=options), steps=2)
    fit(run, progress=False)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert any("val/loss" in row for row in rows)
    clip = diptych.load(tmp_path / "run", "cpu")
    # The model's own budget, 256, wasn't trained: it has the largest that was.
    assert clip.config.preprocess == replace(SMALL.preprocess, patches=16)
    files = sorted(folder.glob("*.png"))
    assert clip.embed_images(files).shape == (len(SIZES), 32)
    assert clip.classify(files[0], ["noise", "a cat"])
    more = run_of(tmp_path / "more", folder, model=ModelConfig(init=str(tmp_path / "run")), steps=1)
    fit(replace(more, data=replace(more.data, patches=(25,))), progress=False)
    assert diptych.load(tmp_path / "more", "cpu").config.preprocess.patches == 25


def test_the_tower_starts_from_one_for_squares(folder, tmp_path):
    """As SigLIP 2's own did: with the same table of positions, or one of another grid."""
    image = SMALL.image
    shape = {"patch_size": 4, "width": 32, "layers": 2, "heads": 2, "mlp_width": 64}
    squares = replace(
        SMALL, image=SiglipImageConfig(image_size=24, **shape), preprocess=PreprocessConfig()
    )
    source = build(squares)
    save_model(tmp_path / "squares", source)
    options = TowerOptions(init=str(tmp_path / "squares"), freeze=True)
    run = run_of(tmp_path / "run", folder, model=ModelConfig(custom=SMALL, image=options), steps=1)
    tower = diptych.load(fit(run, progress=False), "cpu").model.image
    assert tower.config == image
    torch.testing.assert_close(tower.patch.weight, source.image.patch.weight)
    assert tower.positions.shape == (16, 32)


def test_a_plan_is_by_budget(folder, tmp_path):
    run = run_of(tmp_path, folder, data=DataConfig(path=str(folder), patches=(16, 4, 4)))
    needs = plan(run, Machines(gpus=2))
    assert [each.patches for each in needs.budgets] == [4, 16]
    small, large = needs.budgets
    assert needs.flops == pytest.approx((2 * small.flops + large.flops) / 3)
    assert small.kept < large.kept == needs.kept
    alone = plan(replace(run, data=replace(run.data, patches=(16,))), Machines(gpus=2))
    assert (alone.budgets, alone.flops) == ((), large.flops)


def test_what_is_for_squares_is_refused(folder, tmp_path):
    run = run_of(tmp_path / "run", folder)
    tiny = ModelConfig(name="tiny")
    cases = (
        ({"model": tiny}, r"--data.patches 4 9 16 is for .*this one takes squares"),
        ({"objective": SlipObjectiveConfig()}, "SlipObjectiveConfig wants strong crops"),
        ({"objective": FilipObjectiveConfig()}, "token_dim: patches of a NaflexImageConfig can't"),
        (
            {"model": ModelConfig(custom=SMALL, image=TowerOptions(size=32))},
            "--model.image.size 32: this model takes pictures of any size",
        ),
        (
            {"objective": DistillObjectiveConfig(teachers=(str(tmp_path / "naflex"),))},
            "can't teach: it takes pictures of their own aspect, and teachers are shown squares",
        ),
    )
    save_model(tmp_path / "naflex", build(SMALL))
    for changes, said in cases:
        with pytest.raises(ConfigError, match=said):
            fit(replace(run, **changes), progress=False)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_it_learns_from_a_teacher_for_squares(folder, tmp_path):
    teacher = save_model(tmp_path / "teacher", build(MODEL))
    objective = DistillObjectiveConfig(teachers=(str(teacher),))
    run = run_of(tmp_path / "run", folder, objective=objective, steps=3)
    run = replace(run, model=ModelConfig(custom=replace(SMALL, logit_bias=None)))
    fit(run, progress=False)
    [row] = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert np.isfinite(row["loss"])
