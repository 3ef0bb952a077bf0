"""Checkpoints of a training run, written beside it; `training.restore` goes on with them.

The training waits until its state is copied to the CPU's memory, and not for the disk: a thread
writes the copy. Each process copies and writes the parts of the tensors that it has (`write_pieces`
plans them by torch's distributed checkpoints), straight to their places in two files. So one
process and a thousand, however the model is spread, leave the same folder (its parts stand in
`diptych.checkpoints.steps`), nothing is ever gathered, and any number of processes reads it, each
what it needs. torch's own files would be one or two for each process, with an index that is
unpickled, which may run anything; its safetensors are written twice, to be put together.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from diptych.checkpoints.steps import (
    MODEL,
    OBJECTIVE,
    PROGRESS,
    TRAINING,
    VERSION,
    Progress,
    checkpoints,
    seems_whole,
    step_of,
    under,
    write_checksums,
)
from diptych.config import ClipConfig
from diptych.distributed import (
    PeerError,
    Peers,
    Piece,
    local,
    on_main,
    own_pieces,
    write_pieces,
)
from diptych.durable import new_folder, remove
from diptych.errors import CheckpointError, TrainingError
from diptych.inputs import Tokenizer
from diptych.training.moments import changed, kept
from diptych.training.state import TrainingState
from diptych.weights.mapped import DTYPES
from diptych.weights.native import METADATA, WEIGHTS, describe
from diptych.weights.tensor_file import create, put
from diptych.weights.writing import unwritable

_ALONE = Peers()
_PERIOD = 0.1
"""Seconds between two looks at whether it is written."""
_REASONS = (OSError, SafetensorError, CheckpointError, PeerError)
"""Why a checkpoint can't be written."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of what this process is to write of a state."""

    pieces: dict[str, Piece]
    """By file and name: FILE/NAME."""
    progress: Progress
    config: ClipConfig


class Saver:
    """Writes the checkpoints of a run, one at a time, in a thread beside the training.

    `peers` have a group of their own (`aside`): collectives of two threads would meet in one.
    """

    def __init__(self, tokenizer: Tokenizer, out: Path, keep: int, peers: Peers):
        self._tokenizer, self._out, self._keep, self._peers = tokenizer, out, keep, peers
        self._thread: threading.Thread | None = None
        self._step = -1
        self._reason: BaseException | None = None
        """Why that of `_step` couldn't be written."""
        self.saved = -1
        """The step of the last one that was written."""

    def start(self, state: TrainingState) -> None:
        """Copy `state`, and have it written. Waits for the one that is being written. Every process
        calls it.

        Raises as `finish` if that one couldn't be written; on a full disk only after this one was
        tried, too.
        """
        self.settle()
        before, reason = self._step, self._reason
        if reason is not None and not isinstance(reason, _REASONS):
            raise reason
        self._step, self._reason = state.step, None
        copy = snapshot(state, self._peers)
        self._thread = threading.Thread(
            target=self._write, args=(copy,), name="checkpoint", daemon=True
        )
        self._thread.start()
        if reason is not None:
            self.settle()
            raise _failed(before, reason, self._out) from reason

    def settle(self, seconds: float = float("inf")) -> None:
        """Wait for the one that is being written, at most so long, however it ends."""
        deadline = time.monotonic() + seconds
        while self._thread is not None and self._thread.is_alive():
            if time.monotonic() > deadline:
                return
            self._thread.join(_PERIOD)  # with signals answered in between

    def check(self) -> None:
        """Raises TrainingError if the last one couldn't be written."""
        if isinstance(self._reason, _REASONS):
            raise _failed(self._step, self._reason, self._out) from self._reason

    def finish(self) -> None:
        """Wait for the one that is being written. Raises TrainingError if it couldn't be, and what
        the loss of a process breaks."""
        self.settle()
        self.check()
        if self._reason is not None:
            raise self._reason

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint of this step, if there is none yet, here and now, alone. Raises
        TrainingError."""
        if self.saved != state.step:
            save(state, self._tokenizer, self._out, self._keep)

    def _write(self, copy: Snapshot) -> None:
        """The thread."""
        try:
            write(copy, self._tokenizer, self._out, self._keep, self._peers)
            self.saved = copy.progress.step
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            self._reason = error


def save(state: TrainingState, tokenizer: Tokenizer, out: Path, keep: int) -> Path:
    """Write a checkpoint here and now, alone; see `write`. Raises TrainingError, with the older
    checkpoints untouched, when it can't be written."""
    try:
        return write(snapshot(state), tokenizer, out, keep)
    except _REASONS as error:
        raise _failed(state.step, error, out) from error


def snapshot(state: TrainingState, peers: Peers = _ALONE) -> Snapshot:
    """A copy of `state`, of all of it over all processes, in the CPU's memory: weights, moments, a
    moving average, 12 or 16 bytes a parameter with AdamW."""
    # Statistics that a process keeps for itself (SimSiam's) are the first one's.
    buffers = {name for name, _ in state.objective.named_buffers()}
    own = [f"{TRAINING}/{OBJECTIVE}{name}" for name in buffers]
    own += [f"{WEIGHTS}/{name.removeprefix(MODEL)}" for name in buffers]
    return Snapshot(
        own_pieces(_tensors(state), peers, of_first=set(own)),
        Progress(
            version=VERSION,
            step=state.step,
            samples=state.samples,
            steps=state.steps,
            order=dict(state.order),
            groups=changed(state),
            scaler=state.scaler.state_dict(),
        ),
        state.model.config,
    )


def write(
    copy: Snapshot, tokenizer: Tokenizer, out: Path, keep: int, peers: Peers = _ALONE
) -> Path:
    """Write a checkpoint under `out`, all or nothing, then delete all but the newest `keep` (0 or
    less: none is deleted). Broken ones don't count as kept, and stay. Every process calls it.

    `tokenizer` goes along, so that the folder needs nothing else. Raises what keeps one of the
    processes from writing, with the older checkpoints untouched.
    """
    step = copy.progress.step
    folder = out / "checkpoints" / f"step-{step:08d}"
    with contextlib.ExitStack() as stack:

        def begin() -> Path:
            room = stack.enter_context(new_folder(folder)) / folder.name
            room.mkdir()
            return room

        def end() -> None:
            describe(room, copy.config, {"run": str(out), "step": step})
            tokenizer.save(room)
            (room / PROGRESS).write_text(json.dumps(asdict(copy.progress)))
            write_checksums(room)
            stack.close()
            _delete_older(out, step, keep)

        room = on_main(peers, begin)
        write_pieces(copy.pieces, _Files(room), peers)
        # It gets its name when all have written.
        on_main(peers, end)
    return folder


def _delete_older(out: Path, step: int, keep: int) -> None:
    """All but the newest `keep`, of which that of `step` is one; it would outlast a power cut."""
    older = [each for each in checkpoints(out) if step_of(each) < step and seems_whole(each)]
    for each in older[: max(0, len(older) - keep + 1)] if keep > 0 else []:
        with contextlib.suppress(OSError):
            remove(each)


class _Files:
    """The files of tensors in the folder of a checkpoint."""

    def __init__(self, folder: Path):
        self._folder = folder

    def create(self, tensors: Mapping[str, Tensor]) -> dict[str, int]:
        """Make them; the byte of its file at which each tensor begins."""
        found = dict[str, int]()
        for file, metadata in ((WEIGHTS, METADATA), (TRAINING, None)):
            own = under(f"{file}/", tensors)
            places = create(self._folder / file, own, metadata)
            found |= {f"{file}/{name}": place for name, place in places.items()}
        return found

    def put(self, room: dict[str, int], pieces: Iterable[tuple[str, int, Tensor]]) -> None:
        """Write them."""
        placed = [
            (name.partition("/")[0], room[name] + before * piece.itemsize, piece)
            for name, before, piece in pieces
        ]
        for file in (WEIGHTS, TRAINING):
            put(self._folder / file, [(place, t) for name, place, t in placed if name == file])


def last_good(out: Path) -> str:
    """In words: the newest checkpoint of a run, if there is one."""
    found = [folder for folder in checkpoints(out) if seems_whole(folder)]
    return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"


def _failed(step: int, error: BaseException, out: Path) -> TrainingError:
    return TrainingError(
        f"could not write the checkpoint of step {step}: {error}; {last_good(out)}. "
        f"Make room and continue with: diptych train --resume {out}"
    )


def check_kinds(state: TrainingState) -> None:
    """Raises TrainingError where a checkpoint can't hold what the state is made of, which is known
    after one step as well as after many."""
    try:
        for _ in _tensors(state):
            pass
    except CheckpointError as error:
        raise TrainingError(f"no checkpoint of this run could be written: {error}") from error


def _tensors(state: TrainingState) -> Iterable[tuple[str, Tensor]]:
    """All of a checkpoint, as FILE/NAME. Raises CheckpointError for what no file can hold."""
    for name, tensor in _named(state):
        if reason := unwritable(local(tensor), DTYPES.values()):
            raise CheckpointError(f"{name.partition('/')[2]} can't be written: {reason}")
        yield name, tensor


def _named(state: TrainingState) -> Iterable[tuple[str, Tensor]]:
    for name, tensor in state.weights.items():
        yield f"{WEIGHTS}/{name}", tensor
    for name, tensor in state.objective.state_dict().items():
        # Without a moving average the model's file already holds the weights that are trained.
        if state.average is not None or not name.startswith(MODEL):
            yield f"{TRAINING}/{OBJECTIVE}{name}", tensor
    for name, tensor in kept(state):
        yield f"{TRAINING}/{name}", tensor
