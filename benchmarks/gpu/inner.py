"""Diptych as these checks see it. When its inner names change, only this file does."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor

import diptych
from benchmarks.gpu.setting import Setting, captions, lengths_of
from diptych import pretrained
from diptych.batch import Batch
from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    DataConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    Run,
    SaveConfig,
    ShardConfig,
    SiglipObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
    TokenPairsConfig,
    TowerOptions,
    TrackConfig,
)
from diptych.config.serialize import override
from diptych.data import Loader
from diptych.distributed import Parts, Peers
from diptych.distributed.shard import _shard  # pyright: ignore[reportPrivateUsage]
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts import open_clip_config
from diptych.families.eva.layouts import eva
from diptych.models import Clip, build
from diptych.objectives import Objective, build_objective
from tests import goldens

Action = Callable[[], object]
TINY = pretrained.get("tiny")
assert isinstance(TINY.image, VitConfig)
PLAIN = replace(TINY, image=replace(TINY.image, stem_widths=()))
"""Without batch norms."""
_SIM_SIAM = SimSiamConfig(width=32, hidden=16)
_TOKENS = TokenPairsConfig(keep=4)
OBJECTIVES: dict[str, tuple[ObjectiveConfig, ClipConfig]] = {
    "clip": (ClipObjectiveConfig(), TINY),
    "siglip": (SiglipObjectiveConfig(), replace(TINY, logit_bias=-10.0)),
    "slip": (SlipObjectiveConfig(views=SimClrConfig(hidden=32, out=16)), TINY),
    "declip": (DeclipObjectiveConfig(views=_SIM_SIAM, queue=64), TINY),
    "filip": (FilipObjectiveConfig(tokens=_TOKENS), replace(TINY, token_dim=32)),
    "defilip": (
        DefilipObjectiveConfig(views=_SIM_SIAM, queue=64, tokens=_TOKENS),
        replace(TINY, token_dim=32),
    ),
}


def run_of(
    model: ClipConfig,
    batch_size: int,
    *,
    precision: Literal["fp32", "bf16", "fp16"] = "bf16",
    compile: bool = False,
    micro_batch: int = 0,
    checkpointing: bool = False,
    ema: float = 0.0,
) -> Run:
    """A run of `batch_size` pairs a step, which goes on until it is stopped."""
    tower = TowerOptions(checkpointing=checkpointing)
    return Run(
        model=ModelConfig(custom=model, image=tower, text=tower),
        data=DataConfig(path="synthetic:100000", workers=0),
        optim=OptimConfig(lr=1e-4, max_norm=1.0),
        save=SaveConfig(every_steps=0),
        track=TrackConfig(every_steps=10**6),
        batch_size=batch_size,
        micro_batch=micro_batch,
        steps=10**6,
        precision=precision,
        compile=compile,
        ema=ema,
    )


def batch_of(
    config: ClipConfig, objective: ObjectiveConfig, pairs: int, seed: int = 0, whole: bool = False
) -> Batch:
    """Pairs as the loader makes them, on the CPU; or `whole`: captions as open_clip's loader makes
    them, padded to the context."""
    views = build_objective(objective, build(config, device="meta")).views
    side, generator = config.image.image_size, torch.Generator().manual_seed(seed)
    images = [torch.randn(pairs, 3, side, side, generator=generator) for _ in views.image]
    ids = captions(pairs, config.text.context_length, seed)
    lengths = lengths_of(ids)
    ids = ids if whole or views.whole_length else ids[:, : max(lengths.host)]
    masked = torch.where(torch.arange(ids.shape[1]) == 1, ids, -100)
    return Batch(
        images=tuple(images),
        texts=tuple(ids for _ in views.text),
        index=torch.arange(pairs),
        mlm_labels=masked if "masked" in views.text else None,
        lengths=None if whole else tuple(lengths for _ in views.text),
    )


def objective_of(objective: ObjectiveConfig, config: ClipConfig) -> Objective:
    """With the same numbers whenever it is called."""
    torch.manual_seed(0)
    return build_objective(objective, build(config)).train()


def recorded_eva(record: Mapping[str, Any]) -> Clip:
    """A tower of EVA's own code with a text tower, and its recorded weights."""
    state = goldens.weights(record["keys"])
    model = build(open_clip_config.from_json({"model_cfg": record["config"]})).eval()
    model.load_state_dict(eva.table(state).to_ours(state))
    return model


def shallow(config: ClipConfig) -> ClipConfig:
    """With one block in each tower: for rehearsals."""
    return override(override(config, "image.layers", 1), "text.layers", 1)


def flops_of(config: ClipConfig, tokens: int) -> int:
    """Of a forward pass over a pair with a caption of `tokens`, as the field counts them."""
    model = build(override(config, "text.context_length", tokens), device="meta")
    return model.image.flops() + model.text.flops()


class _Enough(Exception):
    """Ends a run that was only to be measured."""


class _Resident(Loader):
    """A loader that gives batches which are there already."""

    batches: Iterator[Batch]

    def __iter__(self) -> Iterator[Batch]:
        return self.batches


def _fit(run: Run, batches: Iterator[Batch]) -> Path | None:
    """Diptych's own loop over these batches; the last checkpoint, if there was a last step."""

    def loader(*args: Any, **kwargs: Any) -> Loader:
        made = _Resident(*args, **kwargs)
        made.batches = batches
        return made

    with mock.patch.object(import_module("diptych.training.fit"), "Loader", loader):
        try:
            return diptych.fit(run, progress=False)
        except _Enough:
            return None


def weights_after(run: Run, batches: Sequence[Batch], setting: Setting) -> dict[str, Tensor]:
    """The model's after a step with each batch."""
    with tempfile.TemporaryDirectory() as folder:
        placed = iter([batch.to(setting.device) for batch in batches])
        checkpoint = _fit(replace(run, steps=len(batches), out=f"{folder}/run"), placed)
        assert checkpoint is not None
        return load_file(checkpoint / "model.safetensors")


@dataclass(frozen=True)
class Steps:
    """What steps took."""

    first: float
    """Seconds of those that aren't counted, with all that is made and compiled in them."""
    each: float
    """Seconds of one of the others."""
    peak_gib: float | None


class _Clock:
    """Times steps by their numbers."""

    def __init__(self, setting: Setting, warm: int, steps: int):
        self._setting, self._warm, self._steps = setting, warm, steps
        self._marks: list[float] = []

    def before(self, number: int) -> None:
        """To be called before each step, and once behind the last."""
        if number in (0, self._warm, self._warm + self._steps):
            self._setting.wait()
            self._marks.append(time.perf_counter())
        if number == self._warm and self._setting.is_cuda:
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> Steps:
        start, warm, end = self._marks
        peak = torch.cuda.max_memory_allocated() / 2**30 if self._setting.is_cuda else None
        return Steps(warm - start, (end - warm) / self._steps, peak)


def timed(step: Callable[[int], object], setting: Setting, warm: int, steps: int) -> Steps:
    """Of `steps` steps after `warm` ones; `step` is given their number."""
    clock = _Clock(setting, warm, steps)
    for number in range(warm + steps):
        clock.before(number)
        step(number)
    clock.before(warm + steps)
    return clock.read()


def time_steps(
    run: Run, batches: Sequence[Batch], setting: Setting, warm: int, steps: int
) -> Steps:
    """The same of Diptych's own loop, pictures and captions on the device already."""
    clock = _Clock(setting, warm, steps)

    def feed() -> Iterator[Batch]:
        placed = [batch.to(setting.device) for batch in batches]
        for number in range(warm + steps):
            clock.before(number)
            yield placed[number % len(placed)]
        clock.before(warm + steps)
        raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        _fit(replace(run, out=f"{folder}/run"), feed())
    return clock.read()


def alternating(
    run: Run, batches: Sequence[Batch], other: Callable[[int], object], rounds: int = 7
) -> tuple[float, float]:
    """Median seconds of a step of Diptych's own loop, and of `other`, which is given the step's
    number: one after the other, on this process's CPU. The first of each doesn't count."""
    ours, theirs = list[float](), list[float]()

    def feed() -> Iterator[Batch]:
        for number in range(1 + rounds):
            start = time.perf_counter()
            other(number)
            begun = time.perf_counter()
            yield batches[number % len(batches)]
            ours.append(time.perf_counter() - begun)
            theirs.append(begun - start)
        raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        _fit(replace(run, out=f"{folder}/run"), feed())
    return statistics.median(ours[1:]), statistics.median(theirs[1:])


def around_a_step(run: Run, batch: Batch, setting: Setting, begin: Action, end: Action) -> None:
    """Call `begin` before, and `end` after the third step."""

    def feed() -> Iterator[Batch]:
        placed = batch.to(setting.device)
        yield placed
        yield placed
        setting.wait()
        begin()
        yield placed
        end()
        raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        _fit(replace(run, out=f"{folder}/run"), feed())


def shard(objective: Objective, setting: Setting) -> None:
    """Shards (zero3) over this process alone, which `data_parallel` would leave out."""
    towers = (objective.model.image, objective.model.text)
    _shard(objective, Peers(device=setting.device), ShardConfig(mode="zero3"), Parts(towers))
