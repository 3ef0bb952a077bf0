"""A run that is read while it trains: its newest checkpoint may be deleted at any moment."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

import diptych
from diptych.checkpoints import steps
from diptych.checkpoints.steps import checkpoints, newest
from diptych.config import ModelConfig, Run
from diptych.distributed import Peers
from diptych.errors import CheckpointError
from diptych.inputs import build_tokenizer
from diptych.training.assemble import assemble
from diptych.training.checkpoint import save
from diptych.weights import native
from tests.training.runs import MODEL

LOADS = 40


@pytest.fixture
def written():
    """Writes the checkpoint of a step into a folder, of which one is kept."""
    model = replace(MODEL, embed_dim=8)
    state, _, _ = assemble(Run(model=ModelConfig(custom=model), steps=1), Peers())
    tokenizer = build_tokenizer(model.tokenizer, model.text.context_length)

    def write(out: Path, step: int, keep: int = 1) -> None:
        state.step = step
        save(state, tokenizer, out, keep=keep)

    return write


def test_a_run_that_keeps_one_checkpoint_can_always_be_read(tmp_path, written):
    written(tmp_path, 1)
    done, last = threading.Event(), [1]

    def train() -> None:
        while not done.is_set():
            last[0] += 1
            written(tmp_path, last[0])

    writer = threading.Thread(target=train)
    writer.start()
    try:
        seen = [diptych.load(tmp_path, "cpu").provenance["step"] for _ in range(LOADS)]
    finally:
        done.set()
        writer.join()
    assert seen == sorted(seen)
    assert last[0] > 5
    assert len(checkpoints(tmp_path)) == 1


def test_one_that_goes_while_it_is_read_is_not_damaged(tmp_path, written):
    """The next is taken, without a word."""
    written(tmp_path, 1)

    def read(folder: Path) -> str:
        if folder.name == "step-00000001":
            written(tmp_path, 2)
        native.read(folder)
        return folder.name

    assert newest(tmp_path, read) == "step-00000002"


def test_weights_that_are_being_read_stay_when_their_checkpoint_goes(tmp_path, written):
    written(tmp_path, 1)
    state, _ = native.read(checkpoints(tmp_path)[0])
    written(tmp_path, 2)
    assert len(checkpoints(tmp_path)) == 1
    names = list(state)
    assert all(state[name].isfinite().all() for name in names)
    assert all(state.pop(name, once=True).isfinite().all() for name in names)


def test_reading_does_not_go_on_for_ever(tmp_path, written, monkeypatch):
    monkeypatch.setattr(steps, "_TRIES", 3)
    written(tmp_path, 1)
    asked = []

    def read(folder: Path) -> None:
        asked.append(folder.name)
        written(tmp_path, len(asked) + 1)
        raise CheckpointError("gone")

    with pytest.raises(CheckpointError, match="deletes its checkpoints faster than they are read"):
        newest(tmp_path, read)
    assert len(asked) == 3
