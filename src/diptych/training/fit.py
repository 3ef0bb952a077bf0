"""From a Run to a trained model: assembles the rooms, then lets the loop turn."""

import contextlib
import math
import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from diptych.checkpoints.steps import checkpoints
from diptych.config import Run
from diptych.data import Loader, Source, open_source
from diptych.distributed import Peers, aside, connect, on_main, started_as, together
from diptych.errors import CheckpointError, ConfigError
from diptych.inputs import Preprocess, tokenizer_of
from diptych.interrupts import listening
from diptych.optim import group_table
from diptych.training.assemble import assemble, from_checkpoint
from diptych.training.callbacks import (
    Checkpointer,
    every,
    is_due,
    list_bad_samples,
    log_evaluation,
    log_metrics,
)
from diptych.training.checkpoint import Saver, restore
from diptych.training.claim import claimed
from diptych.training.ending import Ending
from diptych.training.evaluate import Evaluation
from diptych.training.loop import Callback, Meter, train
from diptych.training.metrics import Logger, is_evaluation, open_loggers, read_metrics
from diptych.training.progress import Bar, say
from diptych.training.resume import (
    Changes,
    changes,
    checkpoint_of,
    record,
    sentences,
    set_aside,
)
from diptych.training.saved import load_run
from diptych.training.state import TrainingState


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
        _threads_beside(run.data.workers),
    ):
        tell = say if progress and peers.is_main else _silent
        found = on_main(peers, lambda: checkpoint_of(out, resume))
        old, lost = _as_it_was(out, run) if found else (run, [])
        changed = changes(old, run)
        if not found:
            on_main(peers, lambda: _refuse_another(out))
        # A checkpoint says all about its model: what the run once started from need not be there
        # any more.
        start = replace(run, model=from_checkpoint(run.model, found)) if found else run
        state, wrapped, notes = assemble(start, peers)
        model = state.model.config
        tokenizer = tokenizer_of(model, state.origin)
        preprocess = Preprocess(model.preprocess, model.image.image_size)
        source = open_source(run.data, split="train")
        notes += lost + _place(state, source, run, found, old, changed)
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
            start_sample=state.samples,
            steps=state.steps,
        )
        evaluation = Evaluation(run, peers, tokenizer, preprocess)
        late = bool(evaluation) and is_due(state, run.evaluation.every_steps)
        late = late and found is not None and not _is_measured(out, state.step, peers)
        if found and state.step >= state.steps and not late:
            tell([f"nothing left to do: {out} has taken all of its {state.step} steps"])
            return found
        new = found is None or any(path.startswith("evaluation.") for path in changed)
        tell([*notes, *_tried(evaluation, state, refuse=new)])
        tell(group_table(state.groups, run.optim.lr))
        saver = Saver(tokenizer, out, run.save.keep, side)
        ending = Ending(state, saver, out, peers, interrupts)
        with ending.guarding(), contextlib.ExitStack() as stack:
            tell(on_main(peers, lambda: _begin(run, state, changed, peers)))
            meter = Meter(run.batch_size)
            loggers = together(peers, lambda: _loggers(run, state, peers, stack))
            callbacks: list[Callback] = []
            if progress and peers.is_main:
                bar = stack.enter_context(Bar(state.step, state.steps))
                loggers.append(bar)
                callbacks.append(lambda state: bar.advance(state.step))
            log = log_metrics(meter, loader, peers, loggers, out)
            callbacks.append(every(run.track.every_steps, log))
            callbacks.append(Checkpointer(saver, run.save, peers, interrupts))
            if evaluation:
                # What was trained is safe before it is measured.
                measure = log_evaluation(evaluation, peers, loggers, out)
                callbacks.append(every(run.evaluation.every_steps, measure))
                if late:
                    measure(state)
            try:
                train(state, wrapped, loader, peers, run, meter, callbacks, interrupts)
            finally:
                # A list that can't be written must not hide why the run ended.
                with contextlib.suppress(OSError):
                    list_bad_samples(
                        out / f"bad_samples{f'.{peers.rank}' if peers.rank else ''}.jsonl",
                        loader.bad,
                    )
    return checkpoints(out)[-1]


def _silent(sentences: Sequence[str]) -> None:
    """Where nobody looks."""


def _place(
    state: TrainingState,
    source: Source,
    run: Run,
    found: Path | None,
    old: Run,
    changed: Changes,
) -> list[str]:
    """Put `state` where the run begins or goes on; what the user should know of what was
    changed."""
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
    state.order = {
        "sizes": [len(stream) for stream in source.streams],
        "weights": list(source.weights),
        "resample": run.data.resample,
    }
    # Epochs are counted in samples: a batch of another size changes the steps that are left.
    left = math.ceil(run.epochs * len(source)) - state.samples
    state.steps = run.steps or state.step + math.ceil(max(left, 1 - state.step) / run.batch_size)
    return said + sentences(changed, state, steps, order) if found else []


def _loggers(
    run: Run, state: TrainingState, peers: Peers, stack: contextlib.ExitStack
) -> list[Logger]:
    """Those of the main process, closed with `stack`."""
    return open_loggers(run, Path(run.out), state.step, stack) if peers.is_main else []


def _is_measured(out: Path, step: int, peers: Peers) -> bool:
    """Whether `metrics.jsonl` has what was measured at a step."""

    def look() -> bool:
        rows = read_metrics(out / "metrics.jsonl") if (out / "metrics.jsonl").exists() else []
        return any(row["step"] == step and is_evaluation(row) for row in rows)

    return on_main(peers, look)


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
def _threads_beside(workers: int) -> Generator[None, None, None]:
    """Leave a core to each loader process: threads that wait for a core that a loader holds cost up
    to ten times."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) - workers)))
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
