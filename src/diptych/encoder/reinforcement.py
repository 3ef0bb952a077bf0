"""What teachers say of every sample of a source, computed once and stored."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64

from diptych.config import DataConfig
from diptych.config.serialize import difference
from diptych.data import BadSample, BadSamples, open_source
from diptych.data.teacher_store import (
    NAME,
    PLACES,
    StoredTeacher,
    StoreMeta,
    checksum_of_places,
    read_meta,
    write_meta,
    write_places,
)
from diptych.distributed import Peers, on_main, together
from diptych.durable import lock, sweep
from diptych.encoder.encoder import Encoder
from diptych.encoder.reinforcement_share import Share, joined
from diptych.errors import ConfigError, DataError
from diptych.inputs.truncation import warn_if_truncated

ROWS = 1024
"""Samples in a file of the store: what is lost by a kill, at most, for each process."""


class Reinforcement(NamedTuple):
    """What was stored, and what couldn't be."""

    meta: StoreMeta
    made: int
    """Samples of this call; the others were there already."""
    bad: list[BadSample]
    """Those of this call that couldn't be read; they have no vectors."""


def reinforce(
    data: DataConfig,
    teachers: Sequence[Encoder],
    out: str | os.PathLike[str],
    *,
    vectors: Literal["float32", "float16", "bfloat16"] = "float32",
    progress: bool = False,
    peers: Peers | None = None,
) -> Reinforcement:
    """Store what each teacher makes of `data.augment.crops` crops of every picture, and of every
    caption, in the folder `out`. A distillation then reads it (`DistillObjectiveConfig.reinforced`)
    in place of asking the teachers: the same numbers, with `vectors` in float32.

    Of a part of the data (`data.keep`, `data.share`) it is a store of that part; any smaller part
    can be trained on with it, as any part can with a store of all.

    Each teacher sees the crop at its own size, resized and normalised its own way, and the caption
    by its own tokenizer. What a killed call has finished stays: the same call goes on, and makes
    again what isn't as it was written. With `peers` every process takes its share of the samples.

    Raises ConfigError for teachers, crops or a folder that can't be, DataError for samples that
    can't be read (more than `data.max_bad_share` of them) and a disk that takes no more.

    >>> import tempfile
    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.config import AugmentConfig, DataConfig
    >>> from diptych.encoder import reinforce
    >>> teacher = Encoder(models.build(pretrained.get("tiny")), name="a teacher")
    >>> data = DataConfig(path="synthetic:6", augment=AugmentConfig(crops=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     reinforce(data, [teacher], folder).made
    6
    """
    peers, out = peers or Peers(), Path(out)
    _check_teachers(teachers)
    if not data.augment.crops:
        raise ConfigError(
            "there are no crops to store: --crops must be at least 1, and DataConfig.augment.crops "
            "from Python"
        )
    source = open_source(data, split="train")
    places = source.places(np.arange(len(source)))
    part = source.whole != len(source) or not np.array_equal(places, np.arange(len(source)))
    meta = StoreMeta(
        teachers=tuple(map(_stored, teachers)),
        augment=data.augment,
        samples=len(source),
        rows=ROWS,
        vectors=vectors,
        whole=source.whole if part else 0,
        part=checksum_of_places(places) if part else "",
    )
    with _held(out, peers):
        on_main(peers, lambda: _begin(out, meta, places))
        share = Share(source, teachers, out, meta, BadSamples(source.bad_samples, len(source)))
        numbers = range(meta.chunks)[peers.rank :: peers.size]
        together(peers, lambda: share.run(map(meta.chunk, numbers), data.max_bad_share, progress))
        shares = peers.all_gather_objects((share.made, share.bad.listed, share.truncated))
    for place in range(len(teachers)):
        if cut := [truncated[place] for _, _, truncated in shares if place in truncated]:
            warn_if_truncated(joined(cut))
    bad = dict[BadSample, None]()
    for _, listed, _ in shares:
        bad |= dict.fromkeys(listed)
    return Reinforcement(meta, sum(made for made, _, _ in shares), list(bad))


def _check_teachers(teachers: Sequence[Encoder]) -> None:
    if not teachers:
        raise ConfigError("there is no teacher: name one or several, --teacher MODEL …")
    seen = dict[str, str]()
    for teacher in teachers:
        identity = teacher.identity
        if other := seen.get(identity.fingerprint):
            raise ConfigError(
                f"the teachers {other} and {identity.name} are the same model: name each once"
            )
        seen[identity.fingerprint] = identity.name


def _stored(teacher: Encoder) -> StoredTeacher:
    scale = teacher.model.logit_scale.detach().double().exp().item()
    name, fingerprint = teacher.identity.name, teacher.identity.fingerprint
    return StoredTeacher(name=name, fingerprint=fingerprint, width=teacher.width, scale=scale)


@contextmanager
def _held(out: Path, peers: Peers) -> Generator[None, None, None]:
    """The folder, for this call alone. Raises DataError if another is writing there."""
    if not peers.is_main:
        yield
        return
    try:
        with lock(out / "lock"):
            yield
    except BlockingIOError as error:
        raise DataError(
            f"another process is writing {out} ({error.strerror}); wait until it has finished"
        ) from error


def _begin(out: Path, meta: StoreMeta, places: Int64[np.ndarray, " samples"]) -> None:
    """Say in the folder what is going to be there. Raises ConfigError where it holds something
    else."""
    if not (out / NAME).exists():
        sweep(out)
        if others := [entry.name for entry in out.iterdir() if entry.name not in ("lock", PLACES)]:
            raise ConfigError(
                f"{out} holds {others[0]} and is no store of vectors: choose another --out"
            )
        if meta.whole:
            write_places(out, places)
        write_meta(out, meta)
        return
    there = read_meta(out)
    if there != meta:
        raise ConfigError(
            f"{out} holds other vectors ({_differences(there, meta)}): choose another --out, or "
            "repeat the command that they were made with"
        )
    sweep(out)


def _differences(there: StoreMeta, meta: StoreMeta) -> str:
    said = list[str]()
    old, new = ([(t.name, t.fingerprint) for t in store.teachers] for store in (there, meta))
    if old != new:
        names = (", ".join(name for name, _ in teachers) for teachers in (old, new))
        before, now = names
        same = " of other weights" if before == now else ""
        said.append(f"of the teachers {before}, not {now}{same}")
    for name in ("samples", "vectors"):
        was, now = getattr(there, name), getattr(meta, name)
        if was != now:
            said.append(f"{name} {was}, not {now}")
    if not said and (there.whole, there.part) != (meta.whole, meta.part):
        said.append("of another part of the data")
    for name, (was, now) in difference(there.augment, meta.augment).items():
        said.append(f"{name} {was}, not {now}")
    return "; ".join(said) or "written otherwise"
