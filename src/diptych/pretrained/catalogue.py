"""All known models and weights, by every name in its plain spelling."""

import fnmatch
import functools
import itertools
import re
from dataclasses import replace
from typing import NamedTuple

from diptych.errors import ConfigError
from diptych.families import Entry, Weights, families


class Found(NamedTuple):
    """What a name means."""

    entry: Entry
    weights: Weights | None


def matching(pattern: str) -> list[str]:
    """Names of models that match a shell pattern, in the order in which the families list them."""
    return [name for name in entries() if fnmatch.fnmatchcase(name, plain(pattern))]


def tags_of(name: str) -> list[str]:
    """Tags of weights that are known of a model; see `lookup.tagged`."""
    # Weights of another model may have a tag of this one, too: those that want QuickGELU.
    tags = [tag for tag in _tags() if plain(f"{name}/{tag}") in by_name()]
    tags += [label.rpartition("/")[2] for label, _ in labelled_of(name)]
    return list(dict.fromkeys(tags))


def labelled_of(name: str) -> list[tuple[str, Weights]]:
    """What `labelled` has of a model."""
    model = plain(name)
    return [pair for pair in labelled() if plain(pair[0].rpartition("/")[0]) == model]


@functools.cache
def labelled() -> tuple[tuple[str, Weights], ...]:
    """Weights that are known by `model/tag` alone, each behind it."""
    found: list[tuple[str, Weights]] = []
    for family in families():
        found += family.part(family.repositories)
    return tuple(found)


@functools.cache
def _tags() -> tuple[str, ...]:
    """All that any weights have, OpenAI's first."""
    known = (found.weights.tags for found in by_name().values() if found.weights)
    return tuple(dict.fromkeys(["openai", *itertools.chain.from_iterable(known)]))


@functools.cache
def labelled_by_name() -> dict[str, Found]:
    """What `labelled` has, by `model/tag` and by repository, and copies of any weights, in plain
    spelling. Of a repository's labels the first counts."""
    found: dict[str, Found] = {}
    for label, weights in labelled():
        model = by_name()[plain(label.rpartition("/")[0])].entry
        means = _with(replace(model, training=weights.training), weights)
        found[plain(label)] = means
        found.setdefault(plain(weights.repo), means)
        found |= _copies(means.entry, weights)
    for model in entries().values():
        for weights in model.weights:
            found |= _copies(model, weights)
    return found


def _copies(model: Entry, weights: Weights) -> dict[str, Found]:
    """By repository, and by its own name."""
    found = dict[str, Found]()
    for copy in weights.copies:
        means = _with(model, replace(copy, claims=weights.claims))
        found |= dict.fromkeys(map(plain, (copy.repo, copy.repo.partition("/")[2])), means)
    return found


def _with(model: Entry, weights: Weights) -> Found:
    """The model with these weights alone; its other names mean other weights."""
    config = weights.config or model.config
    return Found(replace(model, config=config, weights=(weights,), aliases=()), weights)


@functools.cache
def entries() -> dict[str, Entry]:
    """By their own names. Raises ConfigError where two families have one of the same name."""
    found: dict[str, Entry] = {}
    for family in families():
        for model in family.entries():
            if model.name in found:
                raise ConfigError(
                    f"the family {family.name} has a model {model.name}, and so has another; "
                    "update or uninstall one of the packages"
                )
            found[model.name] = model
    return found


@functools.cache
def by_name() -> dict[str, Found]:
    """By every name in its plain spelling. A name of two models means the first: no package takes a
    name from us."""
    found: dict[str, Found] = {}
    for model in entries().values():
        found = _names_of(model) | found
    return found


@functools.cache
def models_by_name() -> dict[str, str]:
    """The model of every name and of every tag, in the order in which they are listed."""
    found: dict[str, str] = {}
    for model in entries().values():
        found = found | dict.fromkeys(_names_of(model), model.name) | found
    for name, means in labelled_by_name().items():
        found.setdefault(name, means.entry.name)
    return found


def _names_of(model: Entry) -> dict[str, Found]:
    own = (model.name, *model.aliases)
    found = {plain(name): Found(model, next(iter(model.weights), None)) for name in own}
    for each in model.weights:
        for name in (*each.names, *tagged(own, each.tags)):
            found[plain(name)] = Found(model, each)
    return found


def tagged(names: tuple[str, ...], tags: tuple[str, ...]) -> list[str]:
    """Each name with each tag."""
    return [f"{name}/{tag}" for name, tag in itertools.product(names, tags)]


def plain(name: str) -> str:
    """One spelling for all: `ViT-B/32`, `ViT_B_32` and `vit-b-32`; `ViT-L/14@336px` and
    `vit-l-14-336`."""
    return re.sub(r"px(?=-|$)", "", re.sub("[/_@]", "-", name.lower().removeprefix("hf-hub:")))
