"""What is measured while training: tried before the first step, and never the end of a run."""

import csv
from dataclasses import replace

import pytest
import torch

from diptych.checkpoints.steps import checkpoints
from diptych.config import DataConfig, EvaluationConfig, ModelConfig, SaveConfig, TowerOptions
from diptych.data import open_source
from diptych.distributed import Peers
from diptych.encoder import Encoder, load
from diptych.errors import ConfigError
from diptych.evaluation import evaluate
from diptych.inputs import Preprocess, build_tokenizer
from diptych.training import evaluate as measuring
from diptych.training import fit, read_metrics
from diptych.training.assemble import assemble
from diptych.training.state import exported
from tests import tiny
from tests.training.runs import COMPOSED, MODEL, WORDY, small_run


@pytest.fixture
def pairs(tmp_path):
    """Twelve pictures, of two captions each; the table of them."""
    pictures = tiny.write_pictures(tmp_path / "pictures", each=3)
    path = tmp_path / "pairs.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for number, picture in enumerate(pictures):
            rows.writerow(
                [picture.relative_to(tmp_path), f"number {number}, {picture.parent.name}"]
            )
    return path


def measured(out):
    return [row for row in read_metrics(out / "metrics.jsonl") if "loss" not in row]


def by_hand(model, path, batch_size):
    """CLIP's loss, as its equation says: over rows and columns, pair by pair in float64."""
    encoder, source = Encoder(model), open_source(DataConfig(path=str(path)))
    samples = [source[number] for number in range(len(source))]
    images = encoder.embed_images([sample.image for sample in samples]).double()
    texts = encoder.embed_texts([sample.captions[0] for sample in samples]).double()
    scale, total = model.logit_scale.exp().item(), 0.0
    for start in range(0, len(samples), batch_size):
        logits = scale * images[start : start + batch_size] @ texts[start : start + batch_size].T
        for i in range(len(logits)):
            total -= (logits[i].log_softmax(0)[i] + logits[:, i].log_softmax(0)[i]).item() / 2
    return total / len(samples)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5}, {"batch_size": 5}], ids=str)
def test_the_loss_on_held_out_pairs_is_the_objectives(tmp_path, pairs, changes):
    evaluation = EvaluationConfig(pairs=str(pairs), every_steps=2)
    run = small_run(tmp_path / "run", evaluation=evaluation, steps=4, **changes)
    last = fit(run, progress=False)
    model = load(str(last)).model
    row = measured(tmp_path / "run")[-1]
    assert row["step"] == 4
    assert row["val/loss"] == pytest.approx(by_hand(model, pairs, run.batch_size), abs=1e-5)
    recalls = evaluate(Encoder(model), "retrieval", str(pairs)).metrics
    assert row["val/image_to_text_R@1"] == recalls["image_to_text_r1"]
    assert row["val/text_to_image_R@10"] == recalls["text_to_image_r10"]
    assert row["val/mean_recall"] == recalls["mean_recall"]


def measure(run):
    """The state before the first step, and what is measured then."""
    state, _, _ = assemble(run, Peers())
    model = state.model.config
    tokenizer = build_tokenizer(model.tokenizer, model.text.context_length)
    preprocess = Preprocess(model.preprocess, model.image.image_size)
    return state, measuring.Evaluation(run, Peers(), tokenizer, preprocess)


@pytest.mark.parametrize("name", COMPOSED)
def test_every_objective_has_a_loss_on_held_out_pairs(tmp_path, pairs, name):
    """Strong crops and masked words are drawn, but the same every time."""
    run = small_run(
        tmp_path / "run",
        model=ModelConfig(custom=WORDY),
        objective=COMPOSED[name],
        evaluation=EvaluationConfig(pairs=str(pairs)),
    )
    state, evaluation = measure(run)
    first = evaluation(state)
    assert first["val/loss"] > 0
    assert evaluation(state) == first


def test_several_sets_have_names_that_tell_them_apart(tmp_path):
    for folder in ("a", "b"):
        tiny.write_pictures(tmp_path / folder / "val", each=2)
    paths = tuple(str(tmp_path / folder / "val") for folder in ("a", "b"))
    evaluation = EvaluationConfig(path=paths, every_steps=0)
    fit(small_run(tmp_path / "run", evaluation=evaluation, steps=1), progress=False)
    [row] = measured(tmp_path / "run")
    assert {"a/val/top1", "b/val/top1"} <= row["evaluation"].keys()


def test_what_is_measured_changes_no_bit(tmp_path, pairs):
    evaluation = EvaluationConfig(path="synthetic:12", pairs=str(pairs), every_steps=1)
    model = ModelConfig(custom=MODEL, image=TowerOptions(freeze=True))
    run = small_run(tmp_path / "plain", model=model, steps=4)
    plain = fit(run, progress=False)
    watched = replace(run, out=str(tmp_path / "watched"), evaluation=evaluation)
    watched = fit(watched, progress=False)
    for name in ("model.safetensors", "training.safetensors"):
        assert (plain / name).read_bytes() == (watched / name).read_bytes()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"path": "nowhere"}, "--evaluation.path nowhere: .*doesn't exist"),
        ({"path": "PAIRS"}, "--evaluation.path .*pairs.csv: .* are for --evaluation.pairs"),
        ({"path": ("synthetic:12", "nowhere")}, "--evaluation.path nowhere"),
        ({"path": "synthetic:12", "class_names": "no.txt"}, "--evaluation.path .*no.txt"),
        ({"pairs": "nowhere.csv"}, "--evaluation.pairs nowhere.csv"),
    ],
    ids=["no path", "captions without labels", "one of two", "no class names", "no pairs"],
)
def test_what_cannot_be_measured_is_said_before_the_first_step(tmp_path, pairs, wrong, says):
    if wrong.get("path") == "PAIRS":
        wrong = {"path": str(pairs)}
    run = small_run(tmp_path / "run", evaluation=EvaluationConfig(**wrong))
    with pytest.raises(ConfigError, match=says):
        fit(run, progress=False)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    fit(replace(run, evaluation=EvaluationConfig(), steps=1), progress=False)


def test_pictures_that_cannot_be_read_are_found_before_the_first_step(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "1.png").write_bytes(b"no picture")
    run = small_run(tmp_path / "run", evaluation=EvaluationConfig(path=str(tmp_path / "val")))
    with pytest.raises(ConfigError, match="--evaluation.path .*val: 2 of 2 samples can't be used"):
        fit(run, progress=False)


def test_one_bad_picture_among_the_first_is_no_reason_to_refuse(tmp_path):
    pictures = tiny.write_pictures(tmp_path / "val", each=30)
    pictures[0].write_bytes(b"no picture")
    evaluation = EvaluationConfig(path=str(tmp_path / "val"), every_steps=0)
    fit(small_run(tmp_path / "run", evaluation=evaluation, steps=1), progress=False)
    assert "top1" in measured(tmp_path / "run")[0]["evaluation"]


def failing_after(calls, monkeypatch, error):
    """Accuracies work so many times."""
    real, count = measuring.evaluate_model, []

    def sometimes(*args):
        count.append(1)
        if len(count) > calls:
            raise error
        return real(*args)

    monkeypatch.setattr(measuring, "evaluate_model", sometimes)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyError("label")], ids=repr)
def test_an_evaluation_that_fails_later_is_recorded_and_ends_nothing(
    tmp_path, monkeypatch, capsys, error
):
    failing_after(2, monkeypatch, error)  # the trial, and step 4
    evaluation = EvaluationConfig(path="synthetic:12", every_steps=4)
    run = small_run(tmp_path / "run", evaluation=evaluation, save=SaveConfig(every_steps=4))
    assert fit(run).name == "step-00000012"
    rows = measured(tmp_path / "run")
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert "top1" in rows[0]["evaluation"]
    assert [list(row) for row in rows[1:]] == [["step", "evaluation_failed"]] * 2
    assert "--evaluation.path synthetic:12: " in rows[1]["evaluation_failed"][0]
    assert "evaluation failed; training goes on" in capsys.readouterr().err


def test_a_failing_evaluation_does_not_block_a_resume(tmp_path, capsys):
    pictures = tiny.write_pictures(tmp_path / "val", each=2)
    evaluation = EvaluationConfig(path=str(tmp_path / "val"), every_steps=1)
    run = small_run(tmp_path / "run", evaluation=evaluation, steps=2)
    fit(run, progress=False)
    for picture in pictures:
        picture.unlink()
    assert fit(replace(run, steps=4), resume=True).name == "step-00000004"
    assert "--evaluation.path" in capsys.readouterr().err
    assert "evaluation_failed" in measured(tmp_path / "run")[-1]
    other = replace(run, steps=6, evaluation=replace(evaluation, path="nowhere"))
    with pytest.raises(ConfigError, match="--evaluation.path nowhere"):  # it was just asked for
        fit(other, resume=True, progress=False)


def test_a_checkpoint_is_safe_whatever_becomes_of_its_evaluation(tmp_path, monkeypatch):
    def fail(evaluation, state):
        raise RuntimeError(f"at step {state.step}")

    monkeypatch.setattr(measuring.Evaluation, "__call__", fail)
    evaluation = EvaluationConfig(path="synthetic:12", every_steps=4)
    run = small_run(tmp_path / "run", evaluation=evaluation, save=SaveConfig(every_steps=4))
    with pytest.raises(RuntimeError, match="at step 4"):
        fit(run, progress=False)
    assert [folder.name for folder in checkpoints(tmp_path / "run")] == ["step-00000004"]


def test_what_a_kill_kept_from_being_measured_is_measured_on_resume(tmp_path):
    evaluation = EvaluationConfig(path="synthetic:12", every_steps=4)
    run = small_run(tmp_path / "run", evaluation=evaluation, steps=4)
    fit(run, progress=False)
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join(line for line in lines if "evaluation" not in line) + "\n")
    fit(run, resume=True, progress=False)
    assert metrics.read_text().splitlines() == lines


def test_modes_and_weights_are_as_before(tmp_path, pairs):
    """A frozen tower stays in evaluation mode, the trained one in training."""
    evaluation = EvaluationConfig(pairs=str(pairs))
    model = ModelConfig(custom=MODEL, image=TowerOptions(freeze=True))
    run = small_run(tmp_path / "run", model=model, evaluation=evaluation, ema=0.5)
    state, evaluation = measure(run)
    with torch.no_grad():
        state.objective.model.text.projection.weight += 1  # the average is still without
    before = {name: tensor.clone() for name, tensor in state.objective.state_dict().items()}
    row = evaluation(state)
    with exported(state) as objective:
        assert row["val/loss"] == pytest.approx(by_hand(objective.model, pairs, 8), abs=1e-5)
    after = state.objective.state_dict()
    assert all(tensor.equal(after[name]) for name, tensor in before.items())
    trained = state.objective.model
    assert (trained.image.training, trained.text.training) == (False, True)


@pytest.mark.parametrize(
    ("said", "spelt"),
    [
        ("(--data.class-names)", "(--evaluation.class-names)"),
        ("captions in --caption-key", "captions in --data.caption-key"),
        ("for --evaluation.pairs", "for --evaluation.pairs"),
        ("`diptych evaluate --task retrieval`", "`diptych evaluate --task retrieval`"),
    ],
)
def test_flags_are_spelt_as_in_training(said, spelt):
    assert measuring.spelt_for_training(said) == spelt
