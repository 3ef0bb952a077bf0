"""What one, two or four processes write in any mode, any of them goes on with, in float64: in the
same number and mode bit for bit. It is written beside the training, by all of them."""

import errno
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from diptych.checkpoints.steps import check, checkpoints, step_of
from diptych.config import SaveConfig, ShardConfig
from diptych.distributed import Peers, aside, whole
from diptych.errors import TrainingError
from diptych.inputs import build_tokenizer
from diptych.interrupts import listening
from diptych.training import checkpoint, fit
from diptych.training.checkpoint import Saver
from diptych.training.loop import Meter, train
from diptych.training.restore import restore
from diptych.training.signals import Signals
from tests.distributed.harness import run_processes
from tests.distributed.test_shard import EVA, PAIRS, assembled, rows_of
from tests.objectives.composed import model_config
from tests.training.runs import assert_same_bits, small_run, weights

SAVED = 1
"""The step of which a checkpoint is written while two more are taken."""
ONE = {"one": ShardConfig()}
TWO = {mode: ShardConfig(mode=mode) for mode in ("replicate", "zero2", "zero3")}
FOUR = {"hsdp": ShardConfig(mode="zero3", nodes=True)}
NAMES = [*ONE, *TWO, *FOUR]
NEXT = {name: (name, writer) for name, writer in zip(NAMES, NAMES[-1:] + NAMES[:-1], strict=True)}
"""Who goes on with whose checkpoints: with its own, and another's."""
EVERY = dict.fromkeys(NAMES, tuple(NAMES))


def place(folder: Path, name: str) -> Path:
    return folder / name / "checkpoints" / f"step-{SAVED:08d}"


def steps_of(peers, shard, begin=None, saver=None):
    """The weights, the average and moments at the end, all whole: from the first step, or from the
    checkpoint `begin`."""
    state, wrapped, run = assembled(peers, "defilip", EVA, False, shard)
    rows = list(rows_of(peers, state))
    if begin is not None:
        assert restore(state, begin, PAIRS) == []
        rows = rows[state.step :]

    def save(state):
        if saver is not None and state.step == SAVED:
            saver.start(state)

    with listening() as interrupts:
        signals = Signals(peers, interrupts)
        train(state, wrapped, rows, peers, run, Meter(PAIRS), [save], signals)
    found = state.objective.state_dict()
    found |= {f"average.{name}": tensor for name, tensor in state.average.state().items()}
    for name, parameter in state.objective.named_parameters():
        moments = state.optimizer.state[parameter]
        found |= {f"{name}.{key}": tensor for key, tensor in moments.items()}
    return {name: whole(tensor.detach()).clone() for name, tensor in found.items()}


def write(peers, folder, modes):
    """Of each mode the uninterrupted run's end; its checkpoint lies in `folder / mode`."""
    found, peers = {}, replace(peers, per_node=2)
    config = model_config("defilip")
    tokenizer = build_tokenizer(config.tokenizer, config.text.context_length)
    for name, shard in modes.items():
        with aside(peers) as side:
            saver = Saver(tokenizer, folder / name, 0, side)
            found[name] = steps_of(peers, shard, saver=saver)
            saver.finish()
    return found


def read(peers, folder, modes, writers):
    """Of each mode the ends of the runs that went on from its writers' checkpoints."""
    peers = replace(peers, per_node=2)
    return {
        (name, writer): steps_of(peers, shard, begin=place(folder, writer))
        for name, shard in modes.items()
        for writer in writers[name]
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of the checkpoints, and the ends of the runs that wrote them."""
    folder = tmp_path_factory.mktemp("written")
    ends = write(Peers(), folder, ONE)
    for size, modes in ((2, TWO), (4, FOUR)):
        results = run_processes(size, write, folder, modes)
        ends |= results[0]
    return folder, ends


def close(found, expected, at):
    # Which of the past texts stands where in a queue depends on the number of processes.
    assert found.keys() == expected.keys()
    for name in expected:
        if "queue.rows" not in name:
            different = (found[name] - expected[name]).abs().flatten()
            assert not (different > 1e-12).any(), f"{at}: {name}"
            assert different.isfinite().all(), f"{at}: {name}"


@pytest.mark.parametrize(
    "writers", [NEXT, pytest.param(EVERY, marks=pytest.mark.slow)], ids=["next", "every"]
)
def test_any_number_of_processes_goes_on_in_any_mode(written, writers):
    folder, ends = written
    found = read(Peers(), folder, ONE, writers)
    for size, modes in ((2, TWO), (4, FOUR)):
        for results in run_processes(size, read, folder, modes, writers):
            found |= results
    assert len(found) == sum(map(len, writers.values()))
    for (name, writer), end in found.items():
        if name == writer:
            different = [key for key in end if not end[key].equal(ends[name][key])]
            assert different == [], name
        else:
            close(end, ends["one"], f"{writer} -> {name}")


def test_the_folder_is_the_same_however_many_wrote_it(written):
    folder, _ = written
    expected = weights(place(folder, "one"))
    for name in NAMES:
        check(place(folder, name))
        close(weights(place(folder, name)), expected, name)
        files = [{path.name for path in place(folder, each).iterdir()} for each in ("one", name)]
        assert files[0] == files[1]
        for file in ("model.safetensors", "training.safetensors"):
            sizes = [(place(folder, each) / file).stat().st_size for each in ("one", name)]
            assert sizes[0] == sizes[1]


def slow_on_one(peers: Peers, out: Path) -> list[str]:
    """The second process's disk takes nothing before the loop is three steps further."""
    from diptych.training import loop

    gate, real_put, real_seed = threading.Event(), checkpoint.put, loop.seed_step
    waited, seen = [], []

    def put(path, pieces):
        if peers.rank == 1:
            waited.append(gate.wait(60))
        real_put(path, pieces)

    def seed_step(seed, step, rank):
        if step == 7:
            seen.extend(path.name for path in checkpoints(out))
            gate.set()
        real_seed(seed, step, rank)

    checkpoint.put, loop.seed_step = put, seed_step
    fit(small_run(out, save=SaveConfig(every_steps=4, keep=0)), progress=False)
    assert all(waited)
    return seen


def test_the_loop_waits_for_nobodys_disk(tmp_path):
    """Saved at step 4, on the disk after step 7: it is step 4."""
    assert run_processes(2, slow_on_one, tmp_path / "slow") == [[], []]
    run_processes(2, plainly, tmp_path / "fast")
    for one, other in zip(
        checkpoints(tmp_path / "slow"), checkpoints(tmp_path / "fast"), strict=True
    ):
        assert_same_bits(one, other)


def plainly(peers: Peers, out: Path) -> None:
    fit(small_run(out, save=SaveConfig(every_steps=4, keep=0)), progress=False)


def full_on_one(peers: Peers, out: Path) -> str:
    """The second process can't write its part of the second checkpoint."""
    real, made = checkpoint.put, []

    def put(path, pieces):
        made.append(path)
        if peers.rank == 1 and len(made) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, pieces)

    checkpoint.put = put
    with pytest.raises(TrainingError) as raised:
        fit(small_run(out, save=SaveConfig(every_steps=4, keep=0)), progress=False)
    checkpoint.put = real
    return str(raised.value)


def test_a_full_disk_of_one_is_told_by_all(tmp_path):
    out = tmp_path / "run"
    sentences = run_processes(2, full_on_one, out)
    for sentence in sentences:
        assert sentence.startswith("could not write the checkpoint of step 8: ")
        assert "No space left on device" in sentence
        assert f"the last good checkpoint is {checkpoints(out)[-1]}" in sentence
    assert [step_of(folder) for folder in checkpoints(out)] == [4, 12]
    assert not list((out / "checkpoints").glob(".*"))
