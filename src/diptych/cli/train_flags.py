"""What flags mean beside a recipe's settings: the one typed counts, and none is without effect."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diptych.config import DataConfig, DistillObjectiveConfig, EvaluationConfig, Run, TaughtConfig
from diptych.config.optim import OPTIMIZERS
from diptych.config.serialize import override
from diptych.errors import ConfigError

_OF_DATA = (
    "class_names",
    "templates",
    "weights",
    "upsample",
    "image_root",
    "image_key",
    "consecutive",
    "caption_key",
    "cache",
)
"""Settings of `data` that describe a recipe's own data, and no other."""
_OF_EVALUATION = ("class_names", "templates", "limit")
"""Settings of `evaluation` that describe what a recipe measures on."""
_OF_TEXT = ("data.caption_key", "data.class_names", "data.templates")
_VIEWED = ("data.augment", "data.strong", "data.words", *_OF_TEXT)
"""Settings of `data` that only some views read."""


def typed(flags: Sequence[str]) -> dict[str, str]:
    """Dotted path -> its values, with spaces between, of every flag on a command line.

    >>> from diptych.cli.train_flags import typed
    >>> typed(["--evaluation.path", "a", "b", "--batch-size=8"])
    {'evaluation.path': 'a b', 'batch_size': '8'}
    """
    values: dict[str, list[str]] = {}
    name = ""
    for word in flags:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            values[name] = [value] if equals else []
        elif name:
            values[name].append(word)
    return {name: " ".join(words) for name, words in values.items()}


def without_rivals(plan: Run, said: Mapping[str, str]) -> Run:
    """The plan with what says the same as a typed flag in other words out of its way."""
    if "epochs" in said and "steps" not in said:
        plan = replace(plan, steps=0, epochs=plan.epochs or 1.0)
    if "steps" in said and "epochs" not in said:
        plan = replace(plan, steps=plan.steps or 1, epochs=0.0)
    for room in ("save", "evaluation"):
        if f"{room}.every_steps" in said and f"{room}.every_epochs" not in said:
            plan = override(plan, f"{room}.every_epochs", 0.0)
    for one, other in (("weights", "upsample"), ("upsample", "weights")):
        if f"data.{one}" in said and f"data.{other}" not in said:
            plan = override(plan, f"data.{other}", ())
    # A recipe's own weights are of its own model: beside them another is an error.
    if said.get("model.name") and ("model.init" in said or not plan.model.init):
        plan = replace(plan, model=replace(plan.model, custom=None))
    # Typed weights bring their model with them, unless the recipe describes what it starts from.
    if said.get("model.init") and "model.name" not in said and not plan.model.init:
        plan = replace(plan, model=replace(plan.model, name="", custom=None))
    return plan


def for_own_data(plan: Run, said: Mapping[str, str]) -> tuple[Run, list[str]]:
    """A recipe's plan for the data that was typed; and the settings of the recipe that describe its
    own data, or what it measures on, and so are left out."""
    evaluated = plan.evaluation
    other = "data.source" in said or said.get("data.path", plan.data.path) != plan.data.path
    apart = said.get("evaluation.path", evaluated.path) != evaluated.path
    dropped = [f"data.{name}" for name in _OF_DATA if other]
    dropped += ["evaluation.path"] if other else []
    dropped += [f"evaluation.{name}" for name in _OF_EVALUATION if other or apart]
    left_out = list[str]()
    for path in dropped:
        room, _, name = path.partition(".")
        default = getattr(DataConfig() if room == "data" else EvaluationConfig(), name)
        if path not in said and getattr(getattr(plan, room), name) != default:
            plan = override(plan, path, default)
            left_out.append(path)
    return plan, left_out


def with_stored_crops(plan: Run, said: Collection[str]) -> Run:
    """The plan with the crops of the store of teachers' vectors that it reads, where none were
    typed: a recipe's own are of another training."""
    objective = plan.objective
    if not isinstance(objective, DistillObjectiveConfig) or not objective.reinforced:
        return plan
    if any(path.startswith("data.augment.") for path in said):
        return plan
    from diptych.data.teacher_store import read_meta

    augment = read_meta(Path(objective.reinforced)).augment
    return replace(plan, data=replace(plan.data, augment=augment))


def refuse_idle(plan: Run, said: Collection[str]) -> None:
    """Raises ConfigError for a typed flag that does nothing in this run."""
    found = _idle(plan)
    if any(path.startswith(_VIEWED) for path in said):
        found |= _unseen(plan)
    for path in said:
        idle = [reason for prefix, reason in found.items() if f"{path}.".startswith(f"{prefix}.")]
        if idle:
            raise ConfigError(f"--{path.replace('_', '-')} has no effect: {idle[0]}")


def _unseen(plan: Run) -> dict[str, str]:
    """Settings of views that the objective doesn't ask for."""

    from diptych import pretrained
    from diptych.models import build
    from diptych.models.shapes import shapes_only
    from diptych.objectives import build_objective

    # Any model will do that has what an objective may need: patches and a decoder of their width.
    plain, captioner = pretrained.get("vit-b-32"), pretrained.get("coca-vit-b-32")
    image = replace(plain.image, width=512, heads=8)
    config = plan.objective.adapt(replace(plain, image=image, decoder=captioner.decoder))
    with shapes_only():  # only its views are asked for
        model = build(config, "meta")
        names = plan.objective.teachers if isinstance(plan.objective, TaughtConfig) else ()
        views = build_objective(plan.objective, model, [build(config, "meta") for _ in names]).views
    wanted = {
        "data.augment": "plain" in views.image,
        "data.strong": "strong" in views.image,
        "data.strong_on": "strong" in views.image,
        "data.words.synonyms": "augmented" in views.text,
        "data.words.delete": "augmented" in views.text,
        "data.words.hide": "masked" in views.text,
    }
    wanted |= dict.fromkeys(_OF_TEXT, bool(views.text or plan.evaluation.pairs))
    reason = "the objective asks for no such view (crop or form of the caption)"
    return {name: reason for name, is_wanted in wanted.items() if not is_wanted}


def _unread(name: str) -> dict[str, str]:
    """Settings that the optimiser of this name doesn't use; of one of somebody's own, none."""
    found = dict[str, str]()
    for field in ("betas", "eps", "momentum"):
        readers = [other for other, known in OPTIMIZERS.items() if field in known.reads]
        if name in OPTIMIZERS and name not in readers:
            of = ", ".join(readers)
            found[f"optim.{field}"] = f"it is of --optim.name {of}, and this is {name}"
    return found


def _idle(plan: Run) -> dict[str, str]:
    """Settings that nothing reads, and why."""
    optim, evaluation = plan.optim, plan.evaluation
    found = dict[str, str]()
    if plan.steps and plan.epochs:
        found["epochs"] = f"--steps {plan.steps} says how long to train"
    for room, config in (("save", plan.save), ("evaluation", plan.evaluation)):
        if config.every_epochs:
            found[f"{room}.every_steps"] = (
                f"--{room}.every-epochs {config.every_epochs:g} says when"
            )
    found |= _unread(optim.name)
    if optim.schedule == "constant" and not optim.cooldown:
        found["optim.final_lr"] = "--optim.schedule is constant, without --optim.cooldown"
    if not evaluation.paths:
        names = ("evaluation.class_names", "evaluation.templates")
        found |= dict.fromkeys(names, "nothing is classified without --evaluation.path")
    if not evaluation.paths and not evaluation.pairs:
        reason = "nothing is measured without --evaluation.path or --evaluation.pairs"
        names = ("evaluation.every_steps", "evaluation.every_epochs", "evaluation.limit")
        found |= dict.fromkeys(names, reason)
    if plan.data.source is not None:
        names = (f"data.{name}" for name in _OF_DATA)
        found |= dict.fromkeys(names, "--data.source reads its data by itself")
    elif "::" not in plan.data.path:
        reason = "--data.path names one source, which has all of every batch"
        found |= dict.fromkeys(("data.weights", "data.upsample"), reason)
    return found
