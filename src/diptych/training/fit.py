"""From a Run to a trained model: assembles the rooms, then lets the loop turn."""

import contextlib
import itertools
import math
import os
import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diptych.checkpoints.steps import checkpoints
from diptych.config import EvaluationConfig, Run, SaveConfig
from diptych.data import Loader, Source, open_source
from diptych.data.mixture import mixture_of
from diptych.distributed import Peers, aside, connect, on_main, started_as, together
from diptych.errors import CheckpointError, ConfigError, DataWarning
from diptych.inputs import Preprocess, Tokenizer, tokenizer_of
from diptych.interrupts import listening
from diptych.optim import group_table
from diptych.threads import usable_cores
from diptych.training.assemble import assemble, from_checkpoint, is_sharded
from diptych.training.callbacks import (
    Checkpointer,
    counted,
    every,
    is_due,
    list_bad_samples,
    log_evaluation,
    log_metrics,
)
from diptych.training.checkpoint import Saver
from diptych.training.claim import claimed
from diptych.training.ending import Ending
from diptych.training.evaluate import Evaluation
from diptych.training.loop import Callback, Meter, train
from diptych.training.metrics import Logger, is_evaluation, open_loggers, read_metrics
from diptych.training.position import order_of, taken_of
from diptych.training.progress import Bar, say
from diptych.training.restore import restore
from diptych.training.resume import (
    Changes,
    changes,
    check_kept,
    checkpoint_of,
    record,
    sentences,
    set_aside,
)
from diptych.training.saved import load_run
from diptych.training.signals import Signals
from diptych.training.state import TrainingState
from diptych.training.teachers import Teachers, check_same, load_teachers

_WRITING = 10.0
"""Seconds for a checkpoint on its way, where the run ends by itself."""


def fit(run: Run, *, resume: bool | str | os.PathLike[str] = False, progress: bool = True) -> Path:
    """Train what `run` describes; the folder of the last checkpoint, which `diptych.load` reads.

    `resume` goes on from the newest checkpoint in `run.out`, if there is one, or from the
    checkpoint that it names: the result is the uninterrupted run's, bit for bit on the same
    machine. What of `run` was changed since counts from there on, is said, and recorded in
    `history.jsonl` and `run.json`. Under `torchrun` every process calls this alike. `progress`
    draws a bar.

    A broken checkpoint is passed by for the one before it, with a DamageWarning. Only one training
    at a time may use `run.out`.

    SIGTERM, Ctrl-C, SIGUSR1 and a closed terminal end it within ten seconds; a second one at once.

    Raises StoppedError when the run was stopped so, or lost one of its processes, and can go on;
    TrainingError when it had to stop (not-finite loss, full disk, no memory), DataError when too
    many samples are bad, ConfigError when the run can't work, or not go on so,
    CheckpointError when no checkpoint is whole. Of a run that took no step nothing is left, and if
    it was stopped, Interrupted (a KeyboardInterrupt) is raised.

    >>> import tempfile, diptych
    >>> from diptych.config import DataConfig, ModelConfig, Run
    >>> data = DataConfig(path="synthetic:16", workers=0)
    >>> out = tempfile.mkdtemp() + "/run"
    >>> run = Run(model=ModelConfig(name="tiny"), data=data, batch_size=4, steps=1, out=out)
    >>> diptych.fit(run, progress=False).name
    'step-00000001'
    """
    started_as()
    out = Path(run.out)
    with (
        listening() as interrupts,
        connect() as peers,
        aside(peers) as side,
        claimed(run.out, peers, interrupts),
        _threads_beside(run.data.workers, peers.per_node),
    ):
        tell = say if progress and peers.is_main else _silent
        run, teachers = load_teachers(run, peers, is_sharded(run, peers))
        origin = _origin(run, resume, peers)
        made = _make(run, origin, peers, teachers)
        state, found = made.state, origin.found
        missed = _missed_evaluation(run, made, found, peers)
        if found and state.step >= state.steps and not missed:
            tell([f"nothing left to do: {out} has taken all of its {state.step} steps"])
            return found
        tell([*made.notes, *_tried(made.evaluation, state, refuse=origin.is_evaluation_new)])
        tell(group_table(state.groups, run.optim.lr))
        saver = Saver(made.tokenizer, out, run.save.keep, side)
        written = partial(saver.settle, _WRITING)
        signals = Signals(peers, interrupts, run.save.every_minutes, out, written)
        save = replace(run.save, every_steps=_in_steps(run.save, run, made.pairs))
        checkpointer = Checkpointer(saver, save, signals)
        ending = Ending(state, saver, out, peers, interrupts)
        with ending.guarding(), contextlib.ExitStack() as stack:
            tell(on_main(peers, lambda: _begin(run, state, origin.changed, peers)))
            loggers = together(peers, lambda: _loggers(run, state, peers, stack))
            bar = None
            if progress and peers.is_main:
                bar = stack.enter_context(Bar(state.step, state.steps))
                loggers.append(bar)
            _train(run, made, peers, signals, checkpointer, loggers, bar, missed)
    return checkpoints(out)[-1]


class _Origin(NamedTuple):
    """Where a run begins."""

    found: Path | None
    """The checkpoint from which it goes on."""
    old: Run
    """The run that wrote it."""
    changed: Changes
    notes: Sequence[str]

    @property
    def is_evaluation_new(self) -> bool:
        """Whether what is evaluated was just asked for."""
        return self.found is None or any(path.startswith("evaluation.") for path in self.changed)


class _Made(NamedTuple):
    """What a run is made of."""

    state: TrainingState
    wrapped: nn.Module
    tokenizer: Tokenizer
    loader: Loader
    evaluation: Evaluation
    pairs: int
    """Of one pass over the data."""
    notes: Sequence[str]
    """What the user should know."""


def _origin(run: Run, resume: bool | str | os.PathLike[str], peers: Peers) -> _Origin:
    """Raises ConfigError where another run is there, or this one can't go on so."""
    out = Path(run.out)
    found = on_main(peers, lambda: checkpoint_of(out, resume))
    old, lost = _as_it_was(out, run) if found else (run, [])
    check_same(old, run)
    changed = changes(old, run)
    if not found:
        on_main(peers, lambda: _refuse_another(out))
    return _Origin(found, old, changed, lost)


def _make(run: Run, origin: _Origin, peers: Peers, teachers: Teachers) -> _Made:
    found = origin.found
    # A checkpoint says all about its model: what the run once started from need not be there any
    # more.
    start = replace(run, model=from_checkpoint(run.model, found)) if found else run
    state, wrapped, notes = assemble(start, peers, teachers)
    model = state.model.config
    if model.image.native and teachers.reinforced is not None:
        raise ConfigError(
            "--objective.reinforced: stored teachers saw crops of squares, and this model "
            "takes pictures of their own aspect: name teachers that "
            "are asked (--objective.teachers)"
        )
    tokenizer = tokenizer_of(model, state.origin)
    preprocess = Preprocess(model.preprocess, model.image.image_size)
    alone = not state.objective.views.text
    source = open_source(run.data, split="train", peers=peers, alone=alone)
    placed = _place(state, source, run, origin)
    loader = Loader(
        source,
        run.data,
        preprocess=preprocess,
        tokenizer=tokenizer,
        views=state.objective.views,
        batch_size=run.batch_size,
        seed=run.seed,
        peers=peers,
        start_step=state.step,
        taken=taken_of(state),
        steps=state.steps,
        reinforced=teachers.reinforced,
        readers=teachers.readers if state.objective.views.taught else (),
    )
    mixture = mixture_of(source, loader.order, state.steps)
    for remark in itertools.chain.from_iterable(part.remarks for part in mixture):
        if peers.is_main:
            warnings.warn(remark, DataWarning, stacklevel=2)
    evaluation = Evaluation(run, peers, tokenizer, preprocess, alone)
    said = [*notes, *origin.notes, *placed, *map(str, mixture)]
    return _Made(state, wrapped, tokenizer, loader, evaluation, len(source), said)


def _train(
    run: Run,
    made: _Made,
    peers: Peers,
    signals: Signals,
    checkpointer: Checkpointer,
    loggers: Sequence[Logger],
    bar: Bar | None,
    missed: bool,
) -> None:
    """Train to the last step; `missed`: measure the checkpoint from which it goes on, first."""
    out, state, loader = Path(run.out), made.state, made.loader
    meter = Meter(run.batch_size, partial(counted, loader))
    callbacks = list[Callback]()
    if bar is not None:
        callbacks.append(lambda state: bar.advance(state.step))
    log = log_metrics(meter, peers, signals, loggers, out)
    callbacks.append(every(run.track.every_steps, log))
    callbacks.append(checkpointer)
    if made.evaluation:
        # What was trained is safe before it is measured.
        measure = log_evaluation(made.evaluation, meter, peers, signals, loggers, out)
        callbacks.append(every(_in_steps(run.evaluation, run, made.pairs), measure))
        if missed:
            measure(state)
    try:
        train(state, made.wrapped, loader, peers, run, meter, callbacks, signals)
    finally:
        # A list that can't be written must not hide why the run ended.
        with contextlib.suppress(OSError):
            list_bad_samples(
                out / f"bad_samples{f'.{peers.rank}' if peers.rank else ''}.jsonl", loader.bad
            )


def _in_steps(config: SaveConfig | EvaluationConfig, run: Run, pairs: int) -> int:
    """After how many steps it is time again, where a pass over the data has so many pairs."""
    return math.ceil(config.every_epochs * pairs / run.batch_size) or config.every_steps


def _silent(sentences: Sequence[str]) -> None:
    """Where nobody looks."""


def _place(state: TrainingState, source: Source, run: Run, origin: _Origin) -> list[str]:
    """Put `state` where the run begins or goes on; what the user should know of what was
    changed."""
    found, old, changed, _ = origin
    steps, order, said = 0, {}, list[str]()
    if found:
        try:
            said = restore(state, found, old.batch_size, moments="optim.name" not in changed)
        except CheckpointError as error:
            own = [path for path in changed if path.startswith("objective.")]
            if not own:
                raise
            raise ConfigError(
                f"{', '.join(own)} can't change when a run goes on: {error}"
            ) from error
        steps, order = state.steps, state.order
    state.order = order_of(state, run, source)
    if found:
        check_kept(order, state.order, run)
    # Epochs are counted in samples: a batch of another size changes the steps that are left.
    left = math.ceil(run.epochs * len(source)) - state.samples
    state.steps = run.steps or state.step + math.ceil(max(left, 1 - state.step) / run.batch_size)
    return said + sentences(changed, state, steps, order) if found else []


def _loggers(
    run: Run, state: TrainingState, peers: Peers, stack: contextlib.ExitStack
) -> list[Logger]:
    """Those of the main process, closed with `stack`."""
    return open_loggers(run, Path(run.out), state.step, stack) if peers.is_main else []


def _missed_evaluation(run: Run, made: _Made, found: Path | None, peers: Peers) -> bool:
    """Whether the checkpoint from which it goes on should have been evaluated, and wasn't."""
    file, step = Path(run.out, "metrics.jsonl"), made.state.step
    due = bool(made.evaluation) and is_due(made.state, _in_steps(run.evaluation, run, made.pairs))

    def look() -> bool:
        rows = read_metrics(file) if file.exists() else []
        return any(row["step"] == step and is_evaluation(row) for row in rows)

    return due and found is not None and not on_main(peers, look)


def _tried(evaluation: Evaluation, state: TrainingState, refuse: bool) -> list[str]:
    """What of the evaluation doesn't work. Raises ConfigError for it if `refuse`: it was just asked
    for; a run that goes on isn't ended by it."""
    wrong = evaluation.try_out(state)
    if wrong and refuse:
        raise ConfigError("; ".join(wrong))
    return wrong


def _begin(run: Run, state: TrainingState, changed: Changes, peers: Peers) -> list[str]:
    """Make the folder that of this run: its history, its run.json, no checkpoints of a later
    step."""
    said = set_aside(Path(run.out), state.step)
    record(run, state, changed, peers.size)
    return said


@contextlib.contextmanager
def _threads_beside(workers: int, per_node: int) -> Generator[None, None, None]:
    """Take a share of the cores that this machine's `per_node` processes may use, and leave one of
    it to each loader process: threads that wait for a core that a loader holds cost up to ten
    times."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, usable_cores() // per_node - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _refuse_another(out: Path) -> None:
    """Raises ConfigError if the folder holds a run."""
    if checkpoints(out):
        raise ConfigError(
            f"{out} already holds a run; continue it with: diptych train --resume {out}, "
            "or choose another --out"
        )


def _as_it_was(out: Path, run: Run) -> tuple[Run, list[str]]:
    """The run as it was last begun or gone on with; `run`, and a sentence, where that is lost."""
    if (out / "run.json").exists():
        return load_run(out), []
    return run, [f"{out} has no run.json: what was changed since can't be told"]
