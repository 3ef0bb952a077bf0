"""diptych reinforce SHARDS --teacher A B --out FOLDER"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.cli.train_flags import typed
from diptych.config import DataConfig
from diptych.config.ranges import Filled, Seed, Some
from diptych.errors import ConfigError
from diptych.writable import check_writable

if TYPE_CHECKING:
    from diptych.encoder import Reinforcement

_LISTED = 10
_IDLE = {
    "data.path": "SHARDS say where the pairs are",
    "data.augment.crops": "--crops says how many there are",
    "data.augment.seed": "--seed says it",
    "data.weights": "each pair is taken once",
    "data.upsample": "each pair is taken once",
    "data.resample": "each pair is taken once",
    "data.strong": "teachers see plain crops",
    "data.strong_on": "teachers see plain crops",
    "data.words": "teachers read whole captions",
    "data.workers": "threads read ahead, as many as there are cores",
}
"""Flags of `data` that do nothing here, and why."""


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """Store what teachers make of the pairs that are to be trained on: vectors of several crops of
    every picture, and of all its captions.

    diptych reinforce 'shards/{0000..1499}.tar' --teacher TEACHER ANOTHER --out vectors

    `diptych train RECIPE --objective distill --objective.reinforced vectors` then learns from them,
    on the same pairs and the same crops, without the teachers. The same command goes on where it
    was stopped. Under torchrun each process takes its share.
    """

    shards: Annotated[Positional[str], arg(metavar="SHARDS"), Filled("SHARDS")]
    """Pictures with captions, of any kind that `diptych train --data.path` reads."""
    teacher: Annotated[tuple[str, ...], Filled("--teacher")]
    """One or several models: runs, checkpoints, hf-hub:org/name, names with published weights."""
    out: Annotated[str, arg(metavar="FOLDER")]
    """The folder of the vectors."""
    crops: Some = 10
    """Crops of each picture."""
    seed: Seed = 0
    """Of the crops."""
    vectors: Literal["float32", "float16", "bfloat16"] = "float16"
    """How numbers are stored. float32: as the teachers, asked in training, would give them; the
    others take half of the room."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the teachers' towers."""
    data: DataConfig = DataConfig()
    """As in training: how pairs are read, and the crops of pictures (augment)."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Reinforce, "reinforce", arguments)
    _refuse_idle(arguments)
    check_writable(options.out, "--out")
    from diptych.distributed import connect, started_as, together
    from diptych.encoder import load, reinforce

    started_as()
    augment = replace(options.data.augment, crops=options.crops, seed=options.seed)
    data = replace(options.data, path=options.shards, augment=augment)
    with connect((options.device or "").partition(":")[0]) as peers:
        device = str(peers.device) if peers.size > 1 else options.device
        teachers = together(
            peers,
            lambda: [load(name, device, options.dtype, deploy=False) for name in options.teacher],
        )
        done = reinforce(
            data,
            teachers,
            options.out,
            vectors=options.vectors,
            progress=peers.is_main,
            peers=peers,
        )
        if peers.is_main:
            _tell(options, done)


def _refuse_idle(arguments: Sequence[str]) -> None:
    for path in typed(arguments):
        for prefix, reason in _IDLE.items():
            if f"{path}.".startswith(f"{prefix}."):
                raise ConfigError(f"--{path.replace('_', '-')} has no effect: {reason}")


def _tell(options: Reinforce, done: "Reinforcement") -> None:
    for bad in done.bad[:_LISTED]:
        say(f"left out: {bad.file}, {bad.key}: {bad.reason}", error=True)
    if len(done.bad) > _LISTED:
        say(f"left out: {len(done.bad) - _LISTED:,} more", error=True)
    meta, there = done.meta, done.meta.samples - done.made
    names = ", ".join(f"{teacher.name} ({teacher.width})" for teacher in meta.teachers)
    kept = f", {there:,} of them were there" if there else ""
    say(
        f"{options.out}: {meta.samples:,} samples{kept}, {meta.augment.crops} crops of each, by "
        f"{names}, in {meta.vectors}"
    )
    say(
        f"train with it: `diptych train RECIPE --data.path {options.shards!r} --objective distill "
        f"--objective.reinforced {options.out}`",
        error=True,
    )
