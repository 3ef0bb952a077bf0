"""Checkpoints that the disk, a copy or a hand has changed: noticed before anything is used, and
passed by aloud for the one before."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych.checkpoints.steps import checkpoints, newest
from diptych.errors import CheckpointError, ConfigError, DamagedError, DamageWarning
from diptych.training import fit, load_run, read_metrics
from diptych.training.checkpoint import save
from tests.test_durable import tiny_state
from tests.training.runs import assert_same_bits, small_run

LAST, BEFORE = "step-00000012", "step-00000008"
MOMENT = "optimizer/model.image.projection.weight/exp_avg"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run with two checkpoints, of step 8 and 12."""
    out = tmp_path_factory.mktemp("damage") / "run"
    fit(small_run(out), progress=False)
    return out


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def first_version(run: Path) -> None:
    """As checkpoints were before they had checksums."""
    for folder in checkpoints(run):
        (folder / "checksums.json").unlink()
        progress = json.loads((folder / "training.json").read_text())
        del progress["version"]
        (folder / "training.json").write_text(json.dumps(progress))


def flip(path: Path, place: int) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def change(path: Path, edit) -> None:
    """The tensors of a safetensors file."""
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def set_step(folder: Path) -> None:
    path = folder / "training.json"
    path.write_text(path.read_text().replace('"step": 12', '"step": 10'))


def swap(name: str):
    return lambda folder: shutil.copy(folder.parent / BEFORE / name, folder)


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


DAMAGES = {
    "a bit of a moment": (
        lambda folder: flip(folder / "training.safetensors", -5),
        "training.safetensors isn't what was written",
    ),
    "a bit of a weight": (lambda folder: flip(folder / "model.safetensors", -5), "isn't what was"),
    "a bit of a size": (
        lambda folder: flip(folder / "checksums.json", 40),
        "model.safetensors has",
    ),
    "another step": (set_step, "training.json isn't what was written"),
    "no moments": (
        lambda folder: change(folder / "training.safetensors", lambda found: found.clear()),
        r"training.safetensors has \d+ bytes instead of \d+",
    ),
    "an empty file": (lambda folder: (folder / "training.json").write_bytes(b""), "has 0 bytes"),
    "cut off": (cut("model.safetensors"), r"model.safetensors has \d+ bytes instead of \d+"),
    "another step's moments": (swap("training.safetensors"), "training.safetensors isn't what was"),
    "another step's model": (swap("model.safetensors"), "model.safetensors isn't what was"),
    "another step's progress": (swap("training.json"), "training.json"),
    "missing": (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
    "no checksums": (
        lambda folder: (folder / "checksums.json").unlink(),
        "checksums.json is missing",
    ),
    "nothing in it": (empty, "training.json can't be read"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_noticed_and_the_one_before_is_taken(run, damage, reason):
    damage(run / "checkpoints" / LAST)
    with pytest.warns(DamageWarning, match=f"{LAST}: .*({reason}).*{BEFORE} is taken") as said:
        assert newest(run, lambda folder: folder).name == BEFORE
    assert len(said) == 1


def shape(tensors):
    tensors[MOMENT] = torch.zeros(3)


FIRST_VERSION = {
    "a bit of a weight": (lambda folder: flip(folder / "model.safetensors", -5), "sha256"),
    "another step": (set_step, "training.json is of step 10"),
    "another step's model": (swap("model.safetensors"), "sha256"),
    "a moment of another shape": (
        lambda folder: change(folder / "training.safetensors", shape),
        r"exp_avg has the shape \[3\]",
    ),
    "a moment is missing": (
        lambda folder: change(folder / "training.safetensors", lambda found: found.pop(MOMENT)),
        "has no exp_avg of model.image.projection.weight",
    ),
    "moments cut off": (cut("training.safetensors"), "training.safetensors is damaged"),
    "training.json without a step": (
        lambda folder: (folder / "training.json").write_text("{}"),
        "training.json isn't what was written",
    ),
    "training.json of a list": (
        lambda folder: (folder / "training.json").write_text("[]"),
        "holds a list",
    ),
    "a step in words": (
        lambda folder: (folder / "training.json").write_text('{"step": "12", "scaler": {}}'),
        "step is '12'",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), FIRST_VERSION.values(), ids=FIRST_VERSION)
def test_of_older_checkpoints_what_can_be_seen_is(run, damage, reason):
    first_version(run)
    damage(run / "checkpoints" / LAST)
    with pytest.warns(DamageWarning, match=f"{LAST}: .*({reason}).*{BEFORE} is taken"):
        assert newest(run, lambda folder: folder).name == BEFORE


def test_older_checkpoints_go_on_bit_for_bit(whole, run, tmp_path):
    first_version(run)
    plan = replace(load_run(run), out=str(run), steps=14)
    again = fit(plan, resume=True, progress=False)
    assert (again / "checksums.json").exists()
    newer = replace(plan, out=str(shutil.copytree(whole, tmp_path / "newer")))
    assert_same_bits(again, fit(newer, resume=True, progress=False))


def test_moments_that_an_older_checkpoint_lacks_are_said(run, capsys):
    first_version(run)
    change(run / "checkpoints" / LAST / "training.safetensors", lambda found: found.clear())
    fit(replace(load_run(run), out=str(run), steps=14), resume=True)
    assert f"{LAST} holds no moments of model." in capsys.readouterr().err


def test_a_run_goes_on_from_the_one_before_and_load_agrees(run, tmp_path):
    """What is broken is set aside, nothing is deleted; the run is the one that a kill at step 8
    would have given."""
    plan = replace(load_run(run), out=str(run))
    killed = Path(shutil.copytree(run, tmp_path / "killed"))
    shutil.rmtree(killed / "checkpoints" / LAST)
    expected = fit(replace(plan, out=str(killed)), resume=True, progress=False)
    broken = run / "checkpoints" / LAST / "training.safetensors"
    flip(broken, -5)
    damaged = broken.read_bytes()
    with pytest.warns(DamageWarning, match=f"{BEFORE} is taken"):
        loaded = diptych.load(run)
    assert loaded.provenance["step"] == 8
    with pytest.warns(DamageWarning, match=f"{BEFORE} is taken"):
        again = fit(plan, resume=True, progress=False)
    assert_same_bits(again, expected)
    assert (run / "set-aside-1" / LAST / "training.safetensors").read_bytes() == damaged
    assert [folder.name for folder in checkpoints(run)] == [BEFORE, LAST]
    steps = [row["step"] for row in read_metrics(run / "metrics.jsonl")]
    assert steps == sorted(set(steps))


def test_a_broken_one_that_is_named_is_refused(run):
    flip(run / "checkpoints" / LAST / "training.safetensors", -5)
    plan = replace(load_run(run), out=str(run), steps=14)
    with pytest.raises(DamagedError, match=f"{LAST} is broken.*diptych train --resume {run}"):
        fit(plan, resume=run / "checkpoints" / LAST, progress=False)


def test_if_all_are_broken_nothing_starts(run):
    for folder in checkpoints(run):
        flip(folder / "model.safetensors", -5)
    plan = replace(load_run(run), out=str(run), steps=14)
    with pytest.raises(CheckpointError, match=f"no whole checkpoint .{LAST}: .*; {BEFORE}: "):
        fit(plan, resume=True, progress=False)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        diptych.load(run)


def test_a_model_alone_loads_and_does_not_go_on(run):
    """As after the moments were deleted to save room."""
    for folder in checkpoints(run):
        (folder / "training.safetensors").unlink()
    with pytest.warns(DamageWarning, match=f"its model is whole, and {LAST} is taken"):
        assert diptych.load(run).provenance["step"] == 12
    plan = replace(load_run(run), out=str(run), steps=14)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        fit(plan, resume=True, progress=False)


def test_a_checkpoint_under_another_number_is_noticed(run):
    shutil.copytree(run / "checkpoints" / LAST, run / "checkpoints" / "step-00000013")
    with pytest.warns(DamageWarning, match=f"training.json is of step 12.*{LAST} is taken"):
        assert newest(run, lambda folder: folder).name == LAST


def test_one_of_a_later_version_is_not_passed_by(run):
    first_version(run)
    path = run / "checkpoints" / LAST / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3, "new": 1}))
    with pytest.raises(CheckpointError, match="has format version 3; this Diptych reads 2"):
        newest(run, lambda folder: folder)


def test_strays_stop_nothing(tmp_path):
    """Before the first step and on resume; what bears a checkpoint's name is set aside."""
    out = tmp_path / "run"
    place = out / "checkpoints"
    for name in ("step-zzz", "lost+found", "step-", "step-4.bak"):
        (place / name).mkdir(parents=True)
    for name in ("notes.txt", ".DS_Store", "step-00000004", "step-5x"):
        (place / name).write_text("mine")
    fit(small_run(out, steps=6), progress=False)
    assert (out / "set-aside-1" / "step-00000004").read_text() == "mine"
    (place / "step-00000099").write_text("mine, too")
    last = fit(small_run(out), resume=True, progress=False)
    assert last.name == LAST
    assert (out / "set-aside-2" / "step-00000099").read_text() == "mine, too"
    left = {path.name for path in place.iterdir()}
    strays = {"step-zzz", "lost+found", "step-", "step-4.bak", "notes.txt", ".DS_Store", "step-5x"}
    assert left == {BEFORE, LAST} | strays
    assert diptych.load(out).provenance["step"] == 12


def test_broken_ones_are_not_counted_among_those_that_are_kept(tmp_path):
    state, tokenizer = tiny_state()
    for state.step in (1, 2, 3):
        save(state, tokenizer, tmp_path, keep=0)
    cut("training.safetensors")(tmp_path / "checkpoints" / "step-00000003")
    (tmp_path / "checkpoints" / "step-00000099").mkdir()  # half of a copy
    state.step = 4
    save(state, tokenizer, tmp_path, keep=2)
    names = [folder.name[-2:] for folder in checkpoints(tmp_path)]
    assert names == ["02", "03", "04", "99"]


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("step-100000000", "step-00000002", "step-99999999"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    names = [folder.name for folder in checkpoints(tmp_path)]
    assert names == ["step-00000002", "step-99999999", "step-100000000"]


@pytest.mark.parametrize("text", ["", "{", "\0" * 300, "[]"])
def test_a_run_whose_description_is_lost(run, text):
    """It is said what to do, and that works."""
    plan = replace(load_run(run), out=str(run), steps=14)
    (run / "run.json").write_text(text)
    with pytest.raises(ConfigError, match="is no saved Run"):
        fit(plan, resume=True, progress=False)
    (run / "run.json").unlink()
    with pytest.raises(ConfigError, match="no run.json; go on with the command .*--resume-if-any"):
        load_run(run)
    assert fit(plan, resume=True, progress=False).name == "step-00000014"
    assert load_run(run) == plan


def test_damaged_lines_of_metrics_are_said_and_left_out(run):
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b'{"st\xff', b"7", b"[]", lines[1], b'{"step": 8, "lo']))
    with pytest.warns(DamageWarning, match="line 2 and 2 more lines are damaged, and left out"):
        rows = read_metrics(path)
    assert rows == [json.loads(line) for line in lines[:2]]


def test_damaged_lists_of_bad_samples_are_gone_on_with(run):
    (run / "bad_samples.jsonl").write_bytes(b'{"file": "\xff\xfe')
    fit(replace(load_run(run), out=str(run), steps=14), resume=True, progress=False)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
def test_another_users_file_is_no_damage(run, monkeypatch, name):
    """It is said, and no older checkpoint is taken for it."""
    path, opened = run / "checkpoints" / LAST / name, open

    def refuse(file, *arguments, **options):
        if file == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match=f"{name} can't be read: Permission denied"):
        newest(run, lambda folder: folder)


def test_a_bad_sector_is_damage(run, monkeypatch):
    path, opened = run / "checkpoints" / LAST / "training.safetensors", open

    def fail(file, *arguments, **options):
        if file == path:
            raise OSError(errno.EIO, "Input/output error", str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", fail)
    with pytest.warns(DamageWarning, match=f"Input/output error.*{BEFORE} is taken"):
        newest(run, lambda folder: folder)


def test_checkpoints_that_cannot_be_listed_are_not_none(run, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CheckpointError, match="checkpoints can't be read: Permission denied"):
        checkpoints(run)
