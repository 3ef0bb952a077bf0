"""What runs must share to be compared, and what they may differ in."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from diptych.checkpoints import with_context
from diptych.checkpoints.content import read
from diptych.checkpoints.steps import is_step
from diptych.config import ClipConfig, ClipObjectiveConfig, ModelConfig, Run
from diptych.config.serialize import difference
from diptych.errors import ConfigError
from diptych.experiments.comparison.config import CompareConfig
from diptych.training.assemble import described

_SHARED = ("data", "evaluation", "batch_size", "micro_batch", "steps", "epochs", "model")
"""Settings that everyone shares."""
_FREE = (
    *("data.augment", "data.strong", "data.strong_on", "data.words", "data.workers", "data.cache"),
    *("model.init", "model.image", "model.text"),
)
"""Of them, how pairs are seen and where towers start: a way of training, as the objective is."""
_OWN = ("seed", "out", "recipe")
"""Settings that the benchmark gives each run itself."""
_TOWERS = ("image", "text", "embed_dim", "token_dim", "tokenizer", "preprocess")


def check_fair(variants: Mapping[str, Run], config: CompareConfig) -> None:
    """Raises ConfigError, naming setting and values, where variants differ in what everyone should
    share and `config.differ` doesn't ask for, are the same, or can't be measured."""
    if len(variants) < 2:
        raise ConfigError("a comparison takes two variants or more: --vary 'NAME: --a.b VALUE'")
    folders = dict[str, str]()
    for name, run in variants.items():
        if not slug(name):
            raise ConfigError(f"a variant's name has a letter or a digit, unlike {name!r}")
        if (other := folders.setdefault(slug(name), name)) != name:
            raise ConfigError(f"the variants {other!r} and {name!r} would share a folder")
        if not run.evaluation.paths and not run.evaluation.pairs:
            raise ConfigError(
                "there is nothing to compare by: give --evaluation.path or --evaluation.pairs"
            )
    named = dict.fromkeys(config.differ, False)
    (first, run), *others = variants.items()
    for name, other in others:
        changed = {p: pair for p, pair in _differences(run, other).items() if p not in _OWN}
        if not changed and run.objective == other.objective:
            raise ConfigError(f"the variants {first!r} and {name!r} are the same run")
        for path, (old, new) in changed.items():
            asked = [prefix for prefix in named if _within(path, (prefix,))]
            named.update(dict.fromkeys(asked, True))
            if not asked and _within(path, _SHARED) and not _within(path, _FREE):
                _refuse(path, (first, old), (name, new), config)
    if idle := [path for path, found in named.items() if not found]:
        raise ConfigError(f"--differ {idle[0]} has no effect: no variant differs in it")


def _refuse(path: str, one: tuple[str, object], other: tuple[str, object], config: CompareConfig):
    flag = f"--{path.replace('_', '-')}" if path != "model" else "the model"
    hint = f"give everyone the same, or say that it is what you compare: --differ {path}"
    if config.equal == "flops" and path in ("steps", "epochs"):
        hint = "leave it out: with --equal flops the steps follow from the compute"
    raise ConfigError(
        f"{one[0]!r} and {other[0]!r} differ in {flag} ({one[1]!r} and {other[1]!r}): {hint}"
    )


def _within(path: str, prefixes: Collection[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


_MODEL = ("model.name", "model.custom", "model.image.size", "model.text.context")
"""What says which towers are built."""


def _differences(one: Run, other: Run) -> dict[str, tuple[object, object]]:
    """By dotted path; of models, in the towers that are built and not in what they are called."""
    found = dict(difference(one, other))
    for path in list(found):
        if _within(path, _MODEL):
            del found[path]
    for path, pair in _tower_differences(_towers_of(one), _towers_of(other)).items():
        found["model"] = (f"{path} {pair[0]}", f"{path} {pair[1]}")
    return found


def _towers_of(run: Run) -> ClipConfig:
    """As they are built. Who starts from weights alone has their towers."""
    model = of_seed(run.model, 0)
    if not model.init or model.name or model.custom:
        return described(run)
    config = read(model.init).config
    if not isinstance(config, ClipConfig):
        raise ConfigError(f"--model.init {model.init} is no whole model: name it as --model.name")
    size = model.image.size or config.image.image_size
    if model.text.context:
        config = with_context(config, model.text.context)
    return replace(config, image=replace(config.image, image_size=size))


def _tower_differences(one: ClipConfig, other: ClipConfig) -> dict[str, tuple[object, object]]:
    changed = difference(one, other)
    if type(one.image) is not type(other.image):
        changed |= {"image": (type(one.image).__name__, type(other.image).__name__)}
    return {path: pair for path, pair in changed.items() if _within(path, _TOWERS)}


def with_shared_towers(variants: Mapping[str, Run]) -> dict[str, Run]:
    """The same runs, where objectives ask for something of the towers (a mask token, a space for
    patches and words) that everyone's then have.

    >>> from diptych.config import FilipObjectiveConfig, ModelConfig, Run
    >>> from diptych.experiments.comparison.fairness import with_shared_towers
    >>> base = Run(model=ModelConfig(name="tiny"), steps=1)
    >>> runs = with_shared_towers({"clip": base, "filip": Run(
    ...     model=base.model, steps=1, objective=FilipObjectiveConfig())})
    >>> runs["clip"].model.custom.token_dim
    256
    """
    runs = list(variants.values())
    towers = [
        (run.model.name, run.model.custom, run.model.image.size, run.model.text.context)
        for run in runs
    ]
    adapted = [described(run) for run in runs if not run.model.init]
    alike = all(each == towers[0] for each in towers) and len(adapted) == len(runs)
    if not alike or all(not _tower_differences(adapted[0], each) for each in adapted[1:]):
        return dict(variants)
    shared = plain = described(replace(runs[0], objective=ClipObjectiveConfig()))
    for run in runs:
        shared = run.objective.adapt(shared)
    # Scale and bias are the objective's own, not the towers'.
    shared = replace(shared, logit_scale=plain.logit_scale, logit_bias=plain.logit_bias)
    found = dict[str, Run]()
    for name, run in variants.items():
        model = replace(run.model, name="", custom=shared, image=replace(run.model.image, size=0))
        found[name] = replace(run, model=model)
    return found


def started_from(run: Run, seed: int = 0) -> list[str]:
    """The weights that a run of this seed starts from, as they are named."""
    model = of_seed(run.model, seed)
    return list(dict.fromkeys(filter(None, (model.init, model.image.init, model.text.init))))


def of_seed(model: ModelConfig, seed: int) -> ModelConfig:
    """With the seed for `{seed}` in the names of weights that it starts from."""
    image, text = (
        replace(tower, init=tower.init.replace("{seed}", str(seed)))
        for tower in (model.image, model.text)
    )
    return replace(model, init=model.init.replace("{seed}", str(seed)), image=image, text=text)


def folder_of(weights: str) -> Path | None:
    """The folder of the run that wrote these weights; None: they are no run's of ours."""
    path = Path(weights).expanduser()
    step = step_folder(path)
    folder = step.parent.parent if step else path
    return folder if (folder / "run.json").is_file() else None


def step_folder(path: Path) -> Path | None:
    """The checkpoint that a path names, as a folder or by a file in it."""
    return next((each for each in (path, path.parent) if is_step(each)), None)


def slug(name: str) -> str:
    """A variant's folder: `clip 1/4` is `clip-1-4`."""
    return re.sub(r"[^\w.+]+", "-", name).strip("-.")
