"""Runs compared: tables by hand, costs by hand, a comparison that goes on, its page and JSON."""

import copy
import io
import json
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from diptych.batch import Sample
from diptych.config import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    Run,
    SaveConfig,
    TowerOptions,
)
from diptych.config.serialize import to_json
from diptych.errors import ConfigError, TrainingError, UnknownNameError
from diptych.experiments import CompareConfig, compare_runs
from diptych.experiments.comparison import apart, compute, measures, runs, table
from diptych.experiments.comparison.compute import Step, costs, with_equal_flops, with_steps
from diptych.experiments.comparison.runs import Score, seeded
from diptych.training import fit
from diptych.training.trace import trace
from tests import forked, tiny

RUN = Run(
    model=ModelConfig(name="tiny"),
    data=DataConfig(path="synthetic:64", workers=0),
    evaluation=EvaluationConfig(path="synthetic:16"),
    batch_size=8,
    steps=20,
)
VARIANTS = {"whole": RUN, "half": replace(RUN, data=replace(RUN.data, share=0.5))}


def score(variant, seed, value, **more):
    fields = {"steps": 20, "samples": 160, "epochs": 2.5, "loss": 1.5}
    fields |= {"seconds": 0.25, "memory": 900.0, "figures": {"zero-shot": value}}
    return Score(variant=variant, seed=seed, **(fields | more))


def in_this_process(work, tasks, jobs=1):
    for name, task in tasks.items():
        yield name, work(*task)


@pytest.fixture
def together(monkeypatch):
    """All in this process, which spares the start of others, and few steps to count."""
    monkeypatch.setattr(compute, "TRIAL", 2)
    monkeypatch.setattr(runs, "each_apart", in_this_process)
    monkeypatch.setattr(compute, "each_apart", in_this_process)


def test_a_line_a_variant_with_its_interval():
    scores = [score("a", 0, 0.5), score("b", 0, 0.1), score("a", 1, 0.6, seconds=0.3, memory=1e3)]
    lines = table.rows(scores, {"a": Step(2e13, 0.1, before=1e14), "b": Step(1e13, 0.1)})
    # t(0.975, 1) = 12.706, s = 0.0707, / sqrt(2): 0.635. 1e14 + 20 * 2e13 = 0.5e15.
    assert lines[0] == [
        *("a", "55.0 ± 63.5 %", "160", "2.5", "1.500", "0.5", "0.275", "1,000 MB"),
    ]
    assert lines[1][:2] == ["b", "10.0 %"]
    assert len(table.columns(scores)) == len(lines[0])


def test_variants_are_tested_seed_by_seed():
    base, better, same = (0.5, 0.6, 0.7), (0.52, 0.63, 0.74), (0.51, 0.6, 0.69)
    scores = []
    for seed in range(3):
        scores += [score("base", seed, base[seed]), score("better", seed, better[seed])]
        scores += [score("same", seed, same[seed])]
    first, second = table.tests(scores, {"better": "base", "same": "base"})
    # Differences 0.02, 0.03, 0.04: mean 0.03, s 0.01; t = 0.03 / (0.01 / sqrt 3) = 5.196; with two
    # degrees of freedom p = 1 - t / sqrt(t² + 2) = 0.0351; the interval is 4.303 * 0.01 / sqrt 3.
    assert first.difference.mean == pytest.approx(0.03)
    assert first.difference.radius == pytest.approx(4.30265 * 0.01 / math.sqrt(3), rel=1e-5)
    t = 0.03 * math.sqrt(3) / 0.01
    assert first.p_value == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert first.adjusted == pytest.approx(2 * first.p_value)
    assert second.p_value == second.adjusted == pytest.approx(1.0)
    rows = table.test_rows([first, second])
    assert rows[0][:4] == ["better", "base", "zero-shot", "+3.0 ± 2.5"]
    assert rows[0][4:] == ["0.035", "0.07", "no real difference"]
    real = table.test_rows([replace(first, adjusted=0.04), replace(second, adjusted=None)])
    assert [row[-1] for row in real] == ["better", "one seed tells nothing"]
    assert table.paired_p([0.1]) is None
    assert (table.paired_p([0.1, 0.1]), table.paired_p([0.0, 0.0])) == (0.0, 1.0)


def test_equal_compute_in_steps():
    spent = {"one": Step(10.0, 1.0), "two": Step(4.0, 1.0), "three": Step(10.0, 1.0, before=500.0)}
    plans = with_equal_flops(dict.fromkeys(spent, replace(RUN, steps=100)), spent)
    # 1000 in all: 1000 / 4, and (1000 - 500) / 10.
    assert [run.steps for run in plans.values()] == [100, 250, 50]
    spent["three"] = Step(10.0, 1.0, before=900.0)
    with pytest.raises(ConfigError, match="pays for 10 steps of 'three'"):
        with_equal_flops(dict.fromkeys(spent, replace(RUN, steps=100)), spent)


def test_epochs_are_the_first_variants_for_everyone():
    epochs = replace(RUN, steps=0, epochs=2.5)
    half = replace(epochs, data=replace(RUN.data, share=0.5))
    plans = with_steps({"whole": epochs, "half": half})
    assert [run.steps for run in plans.values()] == [20, 20]


def test_a_seed_draws_its_share_and_its_weights():
    model = ModelConfig(name="tiny", image=TowerOptions(init="runs/mim-{seed}"))
    run = seeded(replace(VARIANTS["half"], model=model), "a b", 3, CompareConfig(out="o", points=5))
    assert (run.seed, run.data.share_seed, run.evaluation.every_steps) == (3, 3, 4)
    assert run.model.image.init == "runs/mim-3"
    assert run.out == str(Path("o/runs/a-b-3"))
    assert seeded(RUN, "whole", 3, CompareConfig()).data == RUN.data


def test_the_cost_of_a_step_is_counted_and_kept(together, tmp_path, quiet):
    config = CompareConfig(out=str(tmp_path))
    found = costs({"whole": RUN, **VARIANTS}, config, quiet)
    # The towers' operations, with captions of full length, are known from their shapes; the real
    # captions are shorter, and the contrast of eight pairs is little.
    planned = trace(RUN, 8).both
    assert 0.4 * planned < found["whole"].flops < 1.1 * planned
    assert found["half"].flops == pytest.approx(found["whole"].flops, rel=0.2)
    [kept] = (tmp_path / "trials").glob("whole-*.json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"flops": 7.0}))
    # Another command, which this folder refuses later, leaves these numbers alone.
    assert costs({"whole": replace(RUN, batch_size=4)}, config, quiet)["whole"].flops != 7.0
    assert costs(VARIANTS, config, quiet)["whole"].flops == 7.0


def test_what_a_run_starts_from_counts(together, tmp_path, quiet, monkeypatch):
    first = _trained(tmp_path / "first-0", steps=2)
    monkeypatch.setattr(compute, "try_out", lambda run: Step(3.0, 0.1))
    config = CompareConfig(out=str(tmp_path / "o"), seeds=1)
    middle = f"{first}/checkpoints/step-00000001"
    for weights, before in (
        (first, 6.0),
        (middle, 3.0),
        (f"{middle}/model.safetensors", 3.0),
        (str(tmp_path / "first-{seed}"), 6.0),
    ):
        warm = replace(RUN, model=ModelConfig(name="tiny", init=weights))
        found = costs({"cold": RUN, "warm": warm}, config, quiet)
        assert found == {"cold": Step(3.0, 0.1), "warm": Step(3.0, 0.1, before=before)}
    unknown = replace(RUN, model=ModelConfig(name="tiny", init="ViT.pt"))
    with pytest.raises(ConfigError, match=r"starts from ViT\.pt, of which nobody knows"):
        costs({"cold": RUN, "warm": unknown}, CompareConfig(equal="flops"), quiet)


def _trained(out, steps):
    save = SaveConfig(every_steps=1, keep=5)
    fit(replace(RUN, steps=steps, out=str(out), save=save), progress=False)
    return str(out)


def test_a_chain_of_two_counts_both(together, tmp_path, quiet, monkeypatch):
    first, second = _trained(tmp_path / "first", steps=1), tmp_path / "second"
    model = ModelConfig(name="tiny", image=TowerOptions(init=first))
    fit(replace(RUN, model=model, steps=2, out=str(second)), progress=False)
    monkeypatch.setattr(compute, "try_out", lambda run: Step(3.0, 0.1))
    model = ModelConfig(name="tiny", image=TowerOptions(init=str(second)))
    found = costs({"warm": replace(RUN, model=model)}, CompareConfig(out=str(tmp_path)), quiet)
    assert found["warm"].before == 3.0 + 6.0


def test_weights_of_every_seed_are_there_before_anything_is_trained(tmp_path, quiet):
    model = ModelConfig(name="tiny", image=TowerOptions(init=str(tmp_path / "first-{seed}")))
    warm, config = replace(RUN, model=model), CompareConfig(out=str(tmp_path / "o"), seeds=2)
    _trained(tmp_path / "first-0", steps=1)
    with pytest.raises(ConfigError, match=r"seed 1 of 'warm' starts from .*first-1, and no run"):
        costs({"cold": RUN, "warm": warm}, config, quiet)
    _trained(tmp_path / "first-1", steps=2)
    with pytest.raises(ConfigError, match=r"took 1 steps, and from .*first-1, which took 2"):
        costs({"cold": RUN, "warm": warm}, config, quiet)


def test_a_comparison_goes_on_where_it_stopped(together, tmp_path, monkeypatch):
    config = CompareConfig(seeds=2, differ=("data.share",), points=2, out=str(tmp_path))
    trained, train = [], runs.train_and_measure

    def interrupted(variant, run, asked, progress):
        if (variant, run.seed) == ("half", 0) and not trained.count("half-0"):
            trained.append("half-0")
            raise KeyboardInterrupt
        trained.append(f"{variant}-{run.seed}")
        return train(variant, run, asked, progress)

    monkeypatch.setattr(runs, "train_and_measure", interrupted)
    short = {name: replace(run, steps=4) for name, run in VARIANTS.items()}
    with pytest.raises(KeyboardInterrupt):
        compare_runs(short, config)
    found = compare_runs(short, config)
    assert trained == ["whole-0", "half-0", "half-0", "whole-1", "half-1"]
    again = compare_runs(short, config)
    assert (again.scores, again.rows, len(trained)) == (found.scores, found.rows, 5)

    results = json.loads(found.results.read_text())
    assert [(s["variant"], s["seed"]) for s in results["scores"]] == [
        *(("whole", 0), ("half", 0), ("whole", 1), ("half", 1)),
    ]
    # 4 steps of 8 pairs: 32 of 64, and of 32.
    assert [s["epochs"] for s in results["scores"]] == [0.5, 1.0, 0.5, 1.0]
    assert set(results["scores"][0]["figures"]) == {"zero-shot", "zero-shot, seen"}
    points = results["curves"]["zero-shot top1 (%)"]["half"]
    assert [(p["step"], p["samples"]) for p in points] == [(2, 16), (4, 32)]
    cost = results["variants"]["half"]["cost"]["flops"]
    assert points[1]["pflops"] == pytest.approx(4 * cost / 1e15)
    page = found.page.read_text()
    for word in ("pairs seen", "10^15 operations", "zero-shot top1", "training loss", "Holm"):
        assert word in page
    # Accuracy and training loss over pairs, operations and minutes.
    assert page.count("<svg") == 6
    saved = [json.loads(path.read_text()) for path in tmp_path.glob("runs/half-*/run.json")]
    seeds = {run["data"].get("share_seed", 0) for run in saved}
    assert seeds == {0, 1}


def test_square_brackets_of_a_name_are_no_markup(monkeypatch, tmp_path):
    monkeypatch.setattr(
        runs,
        "each_apart",
        lambda work, tasks, jobs=1: [(n, score("a [/x]", 0, 0.5)) for n in tasks],
    )
    said = io.StringIO()
    config = CompareConfig(seeds=1, out=str(tmp_path))
    asked = measures.measures_of(RUN)
    (tmp_path / "runs" / "a-x-0").mkdir(parents=True)
    runs.compete({"a [/x]": RUN}, asked, config, Console(file=said))
    assert "a [/x], seed 0: zero-shot 50.0 %" in said.getvalue()


def test_another_run_in_the_folder_is_not_taken_for_this_one(together, tmp_path, quiet):
    config = CompareConfig(differ=("data.share",), out=str(tmp_path))
    run = seeded(RUN, "whole", 0, config)
    folder = Path(run.out)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(to_json(replace(run, steps=30)))
    with pytest.raises(ConfigError, match=r"holds a run whose steps is 30, and this one has 20"):
        runs.compete(VARIANTS, measures.measures_of(RUN), config, quiet)


def _vectors(names, **_):
    """Known ones: a name is a number, and its vector that unit vector."""
    return torch.eye(4)[[int(name) for name in names]]


def test_questions_are_right_where_the_first_sentence_is_the_nearest(monkeypatch):
    notes = (
        {"relation": ["0", "1", "2"]},  # right
        {"relation": ["3", "1", "2"], "count": ["1", "0"]},  # wrong; right
        {"relation": ["3", "3"]},  # all alike is wrong
        {},
    )
    samples = [
        Sample(key=str(i), image=str(i), meta={"questions": each}) for i, each in enumerate(notes)
    ]
    encoder = copy.copy(tiny.encoder())
    monkeypatch.setattr(encoder, "embed_images", _vectors, raising=False)
    monkeypatch.setattr(encoder, "embed_texts", _vectors, raising=False)
    found = measures.answers(encoder, samples)
    assert found == {"relation": pytest.approx(1 / 3), "count": 1.0}


def _refused():
    raise UnknownNameError("model", "tinny", ["tiny"])


def test_the_probe_joins_classes_by_name(tmp_path):
    """The test has no green: its second class is the third of those that were learned."""
    colours = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
    for part, names in {"train": colours, "test": ("blue", "red")}.items():
        for name in names:
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for shade in range(6):
                rgb = tuple(max(0, level - 8 * shade) for level in colours[name])
                Image.new("RGB", (48, 48), rgb).save(folder / f"{shade}.png")
    train, test = (DataConfig(path=str(tmp_path / part)) for part in ("train", "test"))
    asked = measures.Measures(labelled=(("zero-shot", test),), probe=train)
    run = replace(RUN, data=replace(train, templates=("a {}",)))
    assert measures.measure(tiny.encoder(), run, asked)["linear probe"] > 0.9


@pytest.fixture
def forked_apart(monkeypatch):
    """Processes that begin where torch is imported; those of `_ORPHAN` begin as a user's."""
    monkeypatch.setattr(apart, "get_context", lambda _: forked.context())


def test_an_error_of_work_apart_says_whose_it_is(forked_apart):
    with pytest.raises(UnknownNameError) as said:
        list(apart.each_apart(_refused, {"half, seed 1": ()}))
    assert str(said.value) == "half, seed 1: no model is called 'tinny'; did you mean 'tiny'?"
    assert said.value.near == ["tiny"]


_ORPHAN = """
import os, signal, sys, threading, time
from pathlib import Path
from diptych.experiments.comparison import apart

def work(place):
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)

def killed(place):
    while not Path(place).exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    threading.Thread(target=killed, args=sys.argv[1:]).start()
    list(apart.each_apart(work, {"one": (sys.argv[1],)}))
"""


def test_work_ends_with_the_one_who_was_killed(tmp_path):
    script, place = tmp_path / "orphan.py", tmp_path / "process"
    script.write_text(_ORPHAN)
    subprocess.run([sys.executable, str(script), str(place)], check=False, timeout=300)
    worker, until = int(place.read_text()), time.monotonic() + 60
    while time.monotonic() < until and _is_alive(worker):
        time.sleep(0.1)
    assert not _is_alive(worker)


def _is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # which nobody has reaped


def test_work_apart_gives_results_and_errors(forked_apart):
    found = apart.each_apart(math.sqrt, {"a": (4.0,), "b": (-1.0,)})
    assert next(found) == ("a", 2.0)
    with pytest.raises(ValueError, match=re.compile("math domain|nonnegative")):
        next(found)


def test_whose_process_is_gone_is_said_and_the_others_are_told_to_stop(forked_apart):
    with pytest.raises(TrainingError, match=r"the process of first ended with code 3; the same"):
        list(apart.each_apart(os._exit, {"first": (3,)}))
    start = time.monotonic()
    working = apart.each_apart(time.sleep, {"short": (0.0,), "long": (600.0,)}, 2)
    assert next(working) == ("short", None)
    working.close()
    assert time.monotonic() - start < 300


@pytest.mark.slow
def test_runs_are_trained_side_by_side(tmp_path):
    config = CompareConfig(differ=("data.share",), seeds=1, jobs=2, out=str(tmp_path))
    found = compare_runs(VARIANTS, config)
    assert {one.variant for one in found.scores} == {"whole", "half"}
    assert all(one.memory > 100 for one in found.scores)
