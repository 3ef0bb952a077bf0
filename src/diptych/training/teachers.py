"""The teachers of a run: found, known again, and given to the objective."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from diptych import pretrained
from diptych.checkpoints import load_model
from diptych.checkpoints.content import read
from diptych.config import ClipConfig, DistillObjectiveConfig, Run, TaughtConfig, TowerOptions
from diptych.config.alone import need
from diptych.config.model import Side
from diptych.config.serialize import difference, from_dict, to_dict
from diptych.data.reinforced import Reinforced
from diptych.data.views import Reader
from diptych.distributed import Peers, on_main, together
from diptych.encoder.identity import fingerprint
from diptych.errors import CheckpointError, ConfigError, DiptychError, UnknownNameError
from diptych.inputs import Preprocess, tokenizer_of
from diptych.models import Clip, build

_SHOWN = 12
"""Digits of a fingerprint in a sentence."""


class Teachers(NamedTuple):
    """Their models, in the order of their names, and what belongs to them."""

    models: Sequence[Clip] = ()
    folders: Sequence[Path] = ()
    """Of each: the files of its own tokenizer may lie there."""
    notes: Sequence[str] = ()
    """What the user should know."""
    reinforced: Reinforced | None = None
    """What they said, where it is read and they aren't asked."""

    @property
    def folder(self) -> Path | None:
        """The first one's."""
        return self.folders[0] if self.folders else None

    @property
    def readers(self) -> list[Reader]:
        """How each takes pictures and captions."""
        found = list[Reader]()
        for config, folder in zip(self.configs, self.folders, strict=True):
            preprocess = Preprocess(config.preprocess, config.image.image_size)
            found.append(Reader(preprocess, tokenizer_of(config, folder)))
        return found

    @property
    def configs(self) -> list[ClipConfig]:
        """How they are built."""
        return [model.config for model in self.models]


def load_teachers(run: Run, peers: Peers, sharded: bool) -> tuple[Run, Teachers]:
    """The teachers that the run's objective names, and the run with their fingerprints. Where it is
    `sharded`, only the first process has numbers, of which the others get shards.

    Raises ConfigError where they aren't those of the run's fingerprints, CheckpointError for what
    can't be read.
    """
    config = run.objective
    if isinstance(config, DistillObjectiveConfig):
        if config.reinforced:
            return _stored(run, config)
        _refuse_none(config)
    if not isinstance(config, TaughtConfig) or not config.teachers:
        return run, Teachers()
    models, folders = list[Clip](), list[Path]()

    def load() -> None:
        for name in config.teachers:
            try:
                loaded = load_model(name)
            except DiptychError as error:
                raise CheckpointError(f"--objective.teachers {name}: {error}") from error
            models.append(loaded.model)
            folders.append(loaded.meta.folder)

    def describe() -> tuple[list[dict[str, Any]], list[str], list[Path]]:
        if not models:
            load()
        prints = [fingerprint(model.config, model.state_dict()) for model in models]
        return [to_dict(model.config) for model in models], prints, folders

    if not sharded:
        together(peers, load)
    configs, prints, places = on_main(peers, describe)
    if not models:
        models = [build(from_dict(ClipConfig, each), "meta") for each in configs]
    if config.fingerprints:
        _refuse_others(config, config.teachers, tuple(prints), run.out)
    known = replace(config, fingerprints=tuple(prints))
    return replace(run, objective=known), Teachers(models, places)


def _stored(run: Run, config: DistillObjectiveConfig) -> tuple[Run, Teachers]:
    """Those of whom the vectors are stored; their fingerprints stand beside them."""
    found = Reinforced(config.reinforced, config.teachers)
    names = config.teachers or tuple(teacher.name for teacher in found.teachers)
    prints = tuple(teacher.fingerprint for teacher in found.teachers)
    if config.fingerprints:
        _refuse_others(config, names, prints, run.out)
    known = replace(config, teachers=names, fingerprints=prints)
    return replace(run, objective=known), Teachers(reinforced=found)


def check_same(old: Run, new: Run) -> None:
    """Raises ConfigError where a run would go on with other teachers than it had."""
    was, now = old.objective, new.objective
    if isinstance(was, TaughtConfig) and isinstance(now, TaughtConfig) and was.fingerprints:
        _refuse_others(was, now.teachers, now.fingerprints, new.out)


def _refuse_others(
    was: TaughtConfig, names: Sequence[str], prints: Sequence[str], out: str
) -> None:
    if tuple(prints) == was.fingerprints:
        return
    old = ", ".join(each[:_SHOWN] for each in was.fingerprints)
    new = ", ".join(each[:_SHOWN] for each in prints) or "none"
    raise ConfigError(
        f"--objective.teachers {' '.join(names)}: these aren't the teachers that the run has "
        f"(their fingerprints were {old}, and are {new}); give those that it had, or start another "
        f"run from its weights: --model.init {out}"
    )


def _refuse_none(config: DistillObjectiveConfig) -> None:
    if not config.teachers:
        raise ConfigError(
            "the objective distill has no teacher: name one or several, --objective.teachers "
            "MODEL …, or what diptych reinforce has stored, --objective.reinforced FOLDER"
        )


def teacher_configs(run: Run) -> list[ClipConfig]:
    """How the run's teachers are built. Published names say it; of others the files are read, which
    come from the hub as for training. Raises ConfigError for what isn't a teacher."""
    config = run.objective
    if isinstance(config, DistillObjectiveConfig):
        if config.reinforced:
            return []
        _refuse_none(config)
    if not isinstance(config, TaughtConfig):
        return []
    return [_config_of(name) for name in config.teachers]


def _config_of(name: str) -> ClipConfig:
    try:
        if not Path(name).expanduser().exists():
            with contextlib.suppress(UnknownNameError):
                return pretrained.get(name)
        found = read(name).config
    except DiptychError as error:
        raise ConfigError(f"--objective.teachers {name}: {error}") from error
    assert isinstance(found, ClipConfig)
    for side in get_args(Side):
        need(found, side, f"the teacher {name}")
    return found


def student_of(teacher: ClipConfig, own: ClipConfig) -> ClipConfig:
    """A model with its own image tower and pictures, and all else the teacher's."""
    return replace(teacher, image=own.image, preprocess=own.preprocess)


def inherit(model: Clip, teacher: Clip) -> None:
    """Give `model` the teacher's text tower, scale and bias. Raises ConfigError where it has others
    in kind."""
    theirs = student_of(teacher.config, model.config)
    wrong = difference(model.config, theirs)
    wrong = {path: pair for path, pair in wrong.items() if not path.startswith("logit_")}
    if wrong or (model.logit_bias is None) != (teacher.logit_bias is None):
        path, (own, other) = next(iter(wrong.items()), ("logit_bias", (None, None)))
        raise ConfigError(
            "a model of masked image modelling has its teacher's text tower, and what it would "
            f"start from has another one ({path} {own}, the teacher's {other}): start the image "
            "tower alone from it, by --model.image.init"
        )
    model.text.load_state_dict(teacher.text.state_dict())
    with torch.no_grad():
        model.logit_scale.copy_(teacher.logit_scale)
        if model.logit_bias is not None and teacher.logit_bias is not None:
            model.logit_bias.copy_(teacher.logit_bias)


def refuse_text_options(run: Run) -> None:
    """Raises ConfigError for options of a text tower that is the teacher's."""
    asked = difference(TowerOptions(), run.model.text)
    for name in asked.keys() - {"freeze", "checkpointing"}:
        raise ConfigError(
            f"--model.text.{name.replace('_', '-')} has no effect: the text tower is the "
            "teacher's, and isn't trained"
        )
