import errno
import json
import shutil
import signal
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import diptych
from diptych.checkpoints.steps import checkpoints
from diptych.config import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    SaveConfig,
    SiglipObjectiveConfig,
    TowerOptions,
    WordsConfig,
)
from diptych.config.serialize import to_json
from diptych.distributed import Peers
from diptych.errors import ConfigError, TrainingError, TruncationWarning
from diptych.inputs import build_tokenizer
from diptych.training import checkpoint, fit, load_run, read_metrics
from diptych.training.assemble import assemble
from diptych.training.checkpoint import save
from diptych.training.metrics import wandb_id
from tests.forked import Script
from tests.training.runs import COMPOSED, MODEL, WORDY, assert_same_bits, small_run, weights

RESUME = """
import sys
from pathlib import Path
from diptych.training import fit, load_run
fit(load_run(Path(sys.argv[1])), resume=sys.argv[2] == "resume", progress=False)
"""
KILLED = """
import os
import sys
from pathlib import Path
from diptych.checkpoints.steps import checkpoints
from diptych.training import fit, load_run, loop
out, seed_step = Path(sys.argv[1]), loop.seed_step
def killed(*step):
    if checkpoints(out):
        os.kill(os.getpid(), int(sys.argv[2]))
    seed_step(*step)
loop.seed_step = killed
fit(load_run(out), resume=True, progress=False)
"""
"""In the step after the first checkpoint is there."""


def start(out, how):
    return Script(RESUME, out, how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The last checkpoint of the small run, which nothing disturbed."""
    return fit(small_run(tmp_path_factory.mktemp("whole") / "run"), progress=False)


def test_a_run_leaves_everything_that_it_should(whole):
    out = whole.parents[1]
    assert whole.name == "step-00000012"
    assert [folder.name for folder in checkpoints(out)] == ["step-00000008", "step-00000012"]
    assert load_run(out) == small_run(out)
    rows = read_metrics(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    wanted = {
        "loss",
        "lr",
        "grad_norm",
        "scale",
        "samples",
        "seconds",
        "samples_per_second",
        "data_wait",
    }
    assert wanted <= rows[0].keys()
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path, whole):
    assert_same_bits(whole, fit(small_run(tmp_path / "same"), progress=False))
    other = fit(small_run(tmp_path / "other", seed=1, steps=1), progress=False)
    assert not load_file(whole / "model.safetensors")["image.patch.weight"].equal(
        load_file(other / "model.safetensors")["image.patch.weight"]
    )


PARTS_OF_DEFILIP = ("slip", "filip")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9},
        {"micro_batch": 3},
        {"precision": "bf16"},
        {
            "objective": SiglipObjectiveConfig(),
            "model": ModelConfig(custom=replace(MODEL, logit_bias=-10.0)),
        },
        *(
            pytest.param(
                {"objective": objective, "model": ModelConfig(custom=WORDY)},
                marks=[pytest.mark.slow] if name in PARTS_OF_DEFILIP else [],
            )
            for name, objective in COMPOSED.items()
        ),
    ],
    ids=lambda changes: " ".join(type(value).__name__ for value in changes.values()),
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, changes):
    run = small_run(tmp_path / "run", steps=6, save=SaveConfig(every_steps=2), **changes)
    whole = weights(fit(run, progress=False))
    for folder in checkpoints(tmp_path / "run")[1:]:
        shutil.rmtree(folder)
    resumed = weights(fit(run, resume=True, progress=False))
    assert resumed.keys() == whole.keys()
    assert [name for name in whole if not whole[name].equal(resumed[name])] == []
    rows = [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert rows == sorted(set(rows))


def test_float16_trains_with_a_scaled_loss(tmp_path):
    run = small_run(tmp_path / "run", precision="fp16", steps=40, optim=OptimConfig(lr=3e-3))
    last = fit(run, progress=False)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
    assert json.loads((last / "training.json").read_text())["scaler"]["scale"] > 1


def test_checkpoints_can_follow_the_clock(tmp_path):
    save = SaveConfig(every_steps=0, every_minutes=1e-9, keep=0)
    fit(small_run(tmp_path / "run", steps=3, save=save), progress=False)
    assert len(checkpoints(tmp_path / "run")) == 3


def test_what_is_due_by_epochs_is_due_at_their_last_steps(tmp_path):
    """20 pairs by 8: a pass is 2.5 steps, two of them 5 whole ones."""
    run = small_run(
        tmp_path / "run",
        save=SaveConfig(every_epochs=2.0, keep=0),
        evaluation=EvaluationConfig(path="synthetic:12", every_epochs=1.0, limit=4),
    )
    fit(run, progress=False)
    assert [int(folder.name[-2:]) for folder in checkpoints(tmp_path / "run")] == [5, 10, 12]
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "evaluation" in row] == [3, 6, 9, 12]


@pytest.mark.slow
def test_compiled_blocks_train_alike(tmp_path, whole):
    """In a process of its own: the shape checks of these tests can't be compiled."""
    plain = load_file(whole / "model.safetensors")
    out = tmp_path / "compiled"
    out.mkdir()
    (out / "run.json").write_text(to_json(small_run(out, compile=True)))
    errors = start(out, "resume").end(300)[2]
    compiled = load_file(checkpoints(out)[-1] / "model.safetensors")
    for name, tensor in plain.items():
        torch.testing.assert_close(
            tensor, compiled[name], rtol=0, atol=1e-3, msg=f"{name} {errors}"
        )


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (signal.SIGTERM, {}),
        (signal.SIGKILL, {}),
        (signal.SIGKILL, {"objective": COMPOSED["declip"], "model": ModelConfig(custom=WORDY)}),
    ],
    ids=["SIGTERM", "SIGKILL", "SIGKILL, DeCLIP"],
)
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path, whole, number, changes):
    """With DeCLIP, the queue of texts, masked words and the pictures' views go on too."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text(to_json(small_run(out, **changes)))
    code, _, errors = Script(KILLED, out, int(number)).end()
    assert code != 0
    reached = int(checkpoints(out)[-1].name.removeprefix("step-"))
    assert 0 < reached < 12
    if number == signal.SIGTERM:
        assert f"stopped at step {reached} of 12 by SIGTERM" in errors
    assert start(out, "resume").end()[0] == 0
    if changes:
        whole = fit(small_run(tmp_path / "whole", **changes), progress=False)
    assert_same_bits(whole, checkpoints(out)[-1])


def test_a_loss_that_is_not_a_number_ends_the_run_with_its_checkpoint(tmp_path):
    run = small_run(
        tmp_path / "run", optim=OptimConfig(lr=1e30), save=SaveConfig(every_steps=1, keep=0)
    )
    with pytest.raises(TrainingError, match="not a number at step .* Try a lower --optim.lr"):
        fit(run, progress=False)
    kept = checkpoints(tmp_path / "run")
    assert kept
    assert diptych.load(str(kept[0])).config == MODEL


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_intact(tmp_path, monkeypatch, whole):
    real, calls = checkpoint.put, []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) > 2:  # a checkpoint has two files of tensors
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "put", full)
    with pytest.raises(
        TrainingError, match="No space left on device.*last good checkpoint is .*step-00000004"
    ):
        fit(small_run(tmp_path / "run"), progress=False)
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == [
        "step-00000004"
    ]
    monkeypatch.setattr(checkpoint, "put", real)
    resumed = fit(load_run(tmp_path / "run"), resume=True, progress=False)
    assert_same_bits(resumed, whole)


def test_a_folder_with_a_run_is_not_overwritten(whole):
    with pytest.raises(
        ConfigError, match="already holds a run; continue it with: diptych train --resume"
    ):
        fit(small_run(whole.parents[1]), progress=False)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_frozen_tower_keeps_its_weights(tmp_path, side):
    model = ModelConfig(custom=MODEL, **{side: TowerOptions(freeze=True)})
    run = small_run(tmp_path / "run", model=model, steps=2)
    before = {
        name: tensor.clone()
        for name, tensor in assemble(run, Peers())[0].model.state_dict().items()
    }
    after = load_file(fit(run, progress=False) / "model.safetensors")
    moved = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
    assert moved == {"image", "text", "logit_scale"} - {side}


def test_captions_beyond_the_context_are_counted_and_said_once(tmp_path):
    for n in range(8):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{n}.png")
    rows = "".join(f"{n}.png,number {n} {'cat ' * 100}\n" for n in range(8))
    (tmp_path / "a.csv").write_text(f"image,caption\n{rows}")
    data = DataConfig(path=str(tmp_path / "a.csv"), workers=0)
    run = small_run(tmp_path / "run", data=data, steps=3)
    with pytest.warns(TruncationWarning, match="captions are longer than the context") as said:
        fit(run, progress=False)
    assert len(said) == 1
    counts = [row["truncated_captions"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert counts[-1] >= run.steps * run.batch_size  # workers may be a batch ahead


def test_broken_samples_are_skipped_counted_and_listed(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (20, 20), (40 * number, 90, 20)).save(
                tmp_path / "pictures" / name / f"{number}.png"
            )
    (tmp_path / "pictures" / "cat" / "3.png").write_bytes(b"not a picture")
    data = DataConfig(path=str(tmp_path / "pictures"), workers=0, max_bad_share=0.2)
    fit(small_run(tmp_path / "run", data=data), progress=False)
    lines = (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()
    assert len(lines) == 1
    bad = json.loads(lines[0])
    assert "3.png" in bad["key"] + bad["file"]
    assert bad["reason"]
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["bad_samples"] >= 6
    with pytest.raises(
        diptych.DiptychError, match=r"of .* samples read are bad .* the first: .*3.png"
    ):
        fit(small_run(tmp_path / "again", data=replace(data, max_bad_share=0.005)), progress=False)


def test_accuracy_is_measured_on_the_way(tmp_path):
    evaluation = EvaluationConfig(path="synthetic:12", every_steps=5)
    model = ModelConfig(custom=MODEL, image=TowerOptions(freeze=True))
    fit(small_run(tmp_path / "run", evaluation=evaluation, model=model), progress=False)
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "evaluation" in row]
    assert [row["step"] for row in rows] == [5, 10, 12]
    assert 0 <= rows[0]["evaluation"]["top1"] <= rows[0]["evaluation"]["top5"] <= 1


def test_checkpointing_activations_changes_nothing(tmp_path, whole):
    model = ModelConfig(
        custom=MODEL,
        image=TowerOptions(checkpointing=True, patch_dropout=0.25),
        text=TowerOptions(checkpointing=True),
    )
    assert_same_bits(whole, fit(small_run(tmp_path / "again", model=model), progress=False))


def test_the_average_is_what_is_exported(tmp_path):
    run = small_run(tmp_path / "run", ema=0.5, steps=2)
    state, _, _ = assemble(run, Peers())
    weight = state.objective.model.image.projection.weight
    state.average.update()
    start = weight.detach().clone()
    with torch.no_grad():
        weight += 1
    state.average.update()
    folder = save(state, build_tokenizer(MODEL.tokenizer), tmp_path / "run", keep=0)
    torch.testing.assert_close(
        load_file(folder / "model.safetensors")["image.projection.weight"], start + 0.5
    )


def test_a_run_starts_from_given_weights(tmp_path, whole):
    first = shutil.copytree(whole, tmp_path / "first")
    run = small_run(tmp_path / "second", steps=2, model=ModelConfig(init=str(first)))
    state, _, _ = assemble(run, Peers())
    assert state.model.state_dict()["image.patch.weight"].equal(
        load_file(first / "model.safetensors")["image.patch.weight"]
    )
    before = (first / "model.safetensors").read_bytes()
    last = fit(run, progress=False)
    assert (first / "model.safetensors").read_bytes() == before, (
        "training writes to its own copy of the weights"
    )
    assert (last / "model.safetensors").read_bytes() != before
    shutil.rmtree(first)
    assert fit(replace(run, steps=3), resume=True, progress=False).name == "step-00000003"


def test_metrics_reach_tensorboard_and_offline_wandb(tmp_path, monkeypatch):
    from diptych.config import TrackConfig

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = small_run(
        tmp_path / "run", track=TrackConfig(every_steps=6, tensorboard=True, wandb="diptych")
    )
    fit(run, progress=False)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["step"] == 6


def test_runs_of_one_name_are_two_at_wandb(tmp_path):
    """Told apart by the whole path; a folder that was moved is the same run."""
    for folder in ("a/seed0", "b/seed0"):
        (tmp_path / folder).mkdir(parents=True)
    first, second = (wandb_id(tmp_path / folder / "seed0") for folder in ("a", "b"))
    assert first != second
    assert first.startswith("seed0-")
    assert second.startswith("seed0-")
    (tmp_path / "a" / "seed0").rename(tmp_path / "moved")
    assert wandb_id(tmp_path / "moved") == first


def test_what_wordnet_needs_is_said_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    data = DataConfig(path="synthetic:20", workers=0, words=WordsConfig(synonyms="wordnet"))
    model, objective = ModelConfig(custom=WORDY), COMPOSED["declip"]
    run = small_run(tmp_path / "run", data=data, model=model, objective=objective)
    with pytest.raises(ConfigError, match=r"diptych\[nltk\].*nltk.downloader wordnet stopwords"):
        fit(run, progress=False)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_layers_of_a_tower_may_move_more_slowly(tmp_path):
    model = ModelConfig(custom=MODEL, image=TowerOptions(layer_decay=0.5))
    state, _, _ = assemble(small_run(tmp_path / "run", model=model), Peers())
    scale_of = {
        id(p): group["scale"] for group in state.optimizer.param_groups for p in group["params"]
    }
    image, text = state.model.image, state.model.text
    for name, parameter in image.named_parameters():
        assert scale_of[id(parameter)] == 0.5 ** (image.layers - image.layer_of(name)), name
    assert {scale_of[id(parameter)] for parameter in text.parameters()} == {1.0}
    with pytest.raises(ConfigError, match="layer_decay 0.0 must be a number"):
        TowerOptions(layer_decay=0.0)


def test_the_groups_of_parameters_are_said_and_kept(tmp_path, capsys):
    """By hand: of the image tower decay the patches' projection, the two blocks' four
    matrices each, and the projection."""
    image = TowerOptions(lr=5e-4, weight_decay=0.3, layer_decay=0.5)
    run = small_run(tmp_path / "run", steps=1, model=ModelConfig(custom=MODEL, image=image))
    fit(run)
    said = capsys.readouterr().err
    groups = json.loads((tmp_path / "run" / "groups.json").read_text())
    decaying = [group for group in groups if group["title"] == "image decay"]
    assert [group["lr"] for group in decaying] == [5e-4, 2.5e-4, 1.25e-4, 0.625e-4]
    assert {group["weight_decay"] for group in decaying} == {0.3}
    assert sum(group["tensors"] for group in decaying) == 1 + 2 * 4 + 1
    assert decaying[-1]["names"] == ["model.image.patch.weight"]
    assert "image decay" in said
    assert "6.25e-05 to 0.0005" in said
    names = [name for group in groups for name in group["names"]]
    state, _, _ = assemble(run, Peers())
    assert sorted(names) == sorted(name for name, _ in state.objective.named_parameters())
