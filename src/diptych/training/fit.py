"""From a Run to a trained model: assembles the rooms, then lets the loop turn."""

import contextlib
import math
import os
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from diptych import pretrained
from diptych.checkpoints import load_model, start_tower
from diptych.config import ModelConfig, Run
from diptych.config.serialize import to_json
from diptych.data import Loader, open_source
from diptych.distributed import Peers, connect, data_parallel
from diptych.durable import write_file
from diptych.errors import ConfigError
from diptych.inputs import Preprocess, build_tokenizer
from diptych.models import Clip, build
from diptych.objectives import Objective, build_objective
from diptych.optim import Group, build_optimizer, decay_groups, layer_lr_scales, norms_and_biases
from diptych.training.callbacks import (
    Checkpointer,
    every,
    list_bad_samples,
    log_evaluation,
    log_metrics,
)
from diptych.training.evaluate import evaluator
from diptych.training.loop import Callback, Meter, train
from diptych.training.metrics import Logger, open_loggers
from diptych.training.progress import Bar, say
from diptych.training.saved import read_run
from diptych.training.state import TrainingState, checkpoints, restore
from diptych.weights.mapping import left_behind

_DEFAULT = "vit-b-32"
"""The model of a run that names none."""


def fit(run: Run, *, resume: bool = False, progress: bool = True) -> Path:
    """Train what `run` describes; the folder of the last checkpoint, which `diptych.load` reads.

    `resume` goes on from the newest checkpoint in `run.out`: the result is the uninterrupted run's,
    bit for bit on the same machine. Under `torchrun` every process calls this alike. `progress`
    draws a bar.

    Raises TrainingError when the run had to stop (not-finite loss, full disk, SIGTERM), DataError
    when too many samples are bad, ConfigError when the run can't work.

    >>> import tempfile, diptych
    >>> from diptych.config import DataConfig, ModelConfig, Run
    >>> data = DataConfig(path="synthetic:16", workers=0)
    >>> out = tempfile.mkdtemp() + "/run"
    >>> run = Run(model=ModelConfig(name="tiny"), data=data, batch_size=4, steps=1, out=out)
    >>> diptych.fit(run, progress=False).name
    'step-00000001'
    """
    out = Path(run.out)
    with connect() as peers, _threads_beside(run.data.workers):
        _claim(out, run, resume, peers)
        found = checkpoints(out) if resume else []
        # A checkpoint says all about its model: what the run once started from need not be there
        # any more.
        start = replace(run, model=_from_checkpoint(run.model, found[-1])) if found else run
        state, wrapped, notes = assemble(start, peers)
        if progress and peers.is_main:
            say(notes)
        tokenizer = build_tokenizer(
            state.model.config.tokenizer, state.model.config.text.context_length
        )
        preprocess = Preprocess(state.model.config.preprocess, state.model.config.image.image_size)
        source = open_source(run.data)
        steps = run.steps or max(1, math.ceil(run.epochs * len(source) / run.batch_size))
        if found:
            restore(state, found[-1])
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
            steps=steps,
        )
        with contextlib.ExitStack() as stack:
            meter = Meter(run.batch_size)
            loggers = open_loggers(run, out, state.step) if peers.is_main else []
            callbacks: list[Callback] = []
            if progress and peers.is_main:
                bar = stack.enter_context(Bar(state.step, steps))
                loggers.append(bar)
                callbacks.append(lambda state: bar.advance(state.step))
            callbacks += _callbacks(run, peers, steps, meter, loggers, loader)
            checkpointer = Checkpointer(out, run.save, tokenizer, peers, steps)
            callbacks.append(stack.enter_context(checkpointer))
            try:
                train(state, wrapped, loader, peers, run, steps, meter, callbacks)
            finally:
                # A list that can't be written must not hide why the run ended.
                with contextlib.suppress(OSError):
                    list_bad_samples(
                        out / f"bad_samples{f'.{peers.rank}' if peers.rank else ''}.jsonl",
                        loader.bad,
                    )
    return checkpoints(out)[-1]


def load_run(out: Path) -> Run:
    """The Run that a training folder was started with. Raises ConfigError if there is none."""
    try:
        text = (out / "run.json").read_text()
    except OSError as error:
        raise ConfigError(f"{out} is not the folder of a run: it has no run.json") from error
    return read_run(text, out)


def assemble(run: Run, peers: Peers) -> tuple[TrainingState, torch.nn.Module, list[str]]:
    """The state of a run before its first step, the objective as the peers share it, and what the
    user should know of the weights that it starts from."""
    torch.manual_seed(run.seed)
    model, notes = _model(run)
    model = model.to(peers.device)
    notes += _start_towers(model, run.model)
    _prepare(model.train(), run)
    objective = build_objective(run.objective, model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(run.ema)) if run.ema else None
    wrapped = data_parallel(objective, peers)
    optimizer = build_optimizer(run.optim, _groups(objective, run))
    scaler = torch.amp.GradScaler(peers.device.type, enabled=run.precision == "fp16")
    return (
        TrainingState(objective=objective, optimizer=optimizer, scaler=scaler, average=average),
        wrapped,
        notes,
    )


def _from_checkpoint(config: ModelConfig, folder: Path) -> ModelConfig:
    image, text = (replace(tower, init="") for tower in (config.image, config.text))
    return replace(config, custom=None, init=str(folder), image=image, text=text)


def _model(run: Run) -> tuple[Clip, list[str]]:
    """The model, and what of its file it doesn't use."""
    config = run.model
    if not config.init:
        chosen = config.custom or pretrained.get(config.name or _DEFAULT)
        return build(run.objective.adapt(chosen)), []
    loaded = load_model(config.init, config=config.custom)
    said = left_behind(loaded.provenance)
    return loaded.model, [said] if said else []


def _start_towers(model: Clip, config: ModelConfig) -> list[str]:
    notes = []
    if config.image.init:
        notes += start_tower(model.image, "image", config.image.init)
    if config.text.init:
        notes += start_tower(model.text, "text", config.text.init)
    return notes


def _groups(objective: Objective, run: Run) -> tuple[Group, ...]:
    model, scales, decay = objective.model, _scales(objective.model, run), run.optim.weight_decay
    if run.optim.decayed == "tables":
        return decay_groups(objective, norms_and_biases(objective), decay, scales, vectors=True)
    no_decay = {f"model.image.{name}" for name in model.image.no_decay}
    no_decay |= {f"model.text.{name}" for name in model.text.no_decay}
    return decay_groups(objective, frozenset(no_decay), decay, scales)


def _scales(model: Clip, run: Run) -> dict[str, float]:
    """Of the learning rate: of the logits' scale, and in towers where it falls from layer to
    layer."""
    found = {"model.logit_scale": run.optim.scale_lr}
    for side, tower, decay in (
        ("image", model.image, run.model.image.layer_decay),
        ("text", model.text, run.model.text.layer_decay),
    ):
        if decay != 1:
            layers = {
                f"model.{side}.{name}": tower.layer_of(name) for name, _ in tower.named_parameters()
            }
            found |= layer_lr_scales(layers, decay)
    return found


def _prepare(model: Clip, run: Run) -> None:
    for tower, options in ((model.image, run.model.image), (model.text, run.model.text)):
        if options.freeze:
            # Its batch statistics stay as they are, too.
            tower.requires_grad_(False).eval()
        if options.freeze_patches:
            tower.freeze_patches()
        if options.patch_dropout:
            tower.set_patch_dropout(options.patch_dropout)
        if options.stochastic_depth:
            tower.set_stochastic_depth(options.stochastic_depth)
        if options.checkpointing:
            tower.set_checkpointing(True)
        if run.compile:
            for block in tower.blocks:
                block.compile()


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


def _claim(out: Path, run: Run, resume: bool, peers: Peers) -> None:
    """Write run.json into a folder that holds no other run."""
    if not resume and checkpoints(out):
        raise ConfigError(
            f"{out} already holds a run; continue it with: diptych train --resume {out}, "
            "or choose another --out"
        )
    peers.barrier()
    if peers.is_main and not resume:
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_file(out / "run.json", lambda part: part.write_text(to_json(run)))
        except OSError as error:
            raise ConfigError(
                f"can't write to the run's folder {out}: {error.strerror}; choose another --out"
            ) from error
    peers.barrier()


def _callbacks(
    run: Run,
    peers: Peers,
    steps: int,
    meter: Meter,
    loggers: list[Logger],
    loader: Loader,
) -> Iterable[Callback]:
    yield every(run.track.every_steps, steps, log_metrics(meter, loader, peers, loggers))
    if run.evaluation.path:
        yield every(
            run.evaluation.every_steps,
            steps,
            log_evaluation(evaluator(run.evaluation, peers), peers, loggers),
        )
