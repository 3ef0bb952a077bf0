"""Class names and templates, from the data files in `prompts/`."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_text
from diptych.data.wordnet import imagenet_names
from diptych.datasets.entry import EvaluationSet
from diptych.datasets.places import bare
from diptych.datasets.templates import TEMPLATES
from diptych.errors import DataError, first_line

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What one data file says."""

    classes: Mapping[str, tuple[str, ...]]
    """In class order: the label that the data carries (a folder's name, a WordNet id), and the
    names that mean it, of which the first is used. Empty: the data's own labels are the names."""
    templates: Mapping[str, tuple[str, ...]]
    """Under the names of those who published them; the first is used unless a profile asks for
    another."""
    source: str
    licence: str
    parent: tuple[int, ...] = ()
    """Of a subset of ImageNet: the places of its classes among the thousand."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class, in class order."""
        return tuple(spellings[0] for spellings in self.classes.values())

    def templates_of(self, publisher: str) -> tuple[str, ...]:
        """That publisher's templates where the file has them, else the first."""
        found = self.templates.get(publisher) or next(iter(self.templates.values()), ())
        return found


@functools.cache
def prompts(name: str) -> Prompts:
    """The data file `prompts/NAME.json`.

    >>> from diptych.datasets.class_names import prompts
    >>> prompts("fer2013").classes["happy"], prompts("imagenet-a").parent[:2]
    (('happy', 'smiling'), (6, 11))
    """
    file = files("diptych.datasets") / "prompts" / f"{name}.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    if name == "imagenet1k":
        values["classes"] = imagenet_names()
    source, licence = values["source"], values["licence"]
    if "of" in values:
        whole = prompts(values["of"])
        places = {label: place for place, label in enumerate(whole.classes)}
        return Prompts(
            classes={label: whole.classes[label] for label in values["classes"]},
            templates=whole.templates,
            source=f"{source}; names and templates: {whole.source}",
            licence=licence,
            parent=tuple(places[label] for label in values["classes"]),
        )
    return _parse(values, source, licence)


def prompts_of(entry: EvaluationSet, name: str) -> Prompts:
    """The names and templates of a dataset: those in the value itself, of one of ours those in the
    file `name`, of one of yours those in the JSON file that it names.

    What nobody says is left to the data (names), or is "a photo of a {}." (templates). Raises
    DataError for a file that holds something else.
    """
    if entry.class_names or entry.templates:
        classes = {label: (label,) for label in entry.class_names}
        given = {"own": entry.templates or TEMPLATES["simple"]}
        return Prompts(classes=classes, templates=given, source=entry.source, licence=entry.licence)
    if name.endswith(".json"):
        return _read_own(Path(name))
    if (files("diptych.datasets") / "prompts" / f"{name}.json").is_file():
        return prompts(name)
    return Prompts(
        classes={},
        templates={"own": TEMPLATES["simple"]},
        source=entry.source,
        licence=entry.licence,
    )


def _read_own(path: Path) -> Prompts:
    try:
        values = parse_json(read_text(path.expanduser()))
        return _parse(values, values.get("source", ""), values.get("licence", "not stated"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} holds no class names and templates ({first_line(error)}); it needs "
            '{"classes": {LABEL: NAME, …}, "templates": {"own": ["a photo of a {}."]}}'
        ) from None


def _parse(values: Mapping[str, Any], source: str, licence: str) -> Prompts:
    classes = {
        label: (names,) if isinstance(names, str) else tuple(names)
        for label, names in values["classes"].items()
    }
    templates = {publisher: tuple(lines) for publisher, lines in values["templates"].items()}
    return Prompts(classes=classes, templates=templates, source=source, licence=licence)


def prompts_sha256(class_names: Sequence[str], templates: Sequence[str]) -> str:
    """The sha256 of class names and templates, in their order.

    >>> from diptych.datasets.class_names import prompts_sha256
    >>> prompts_sha256(("cat",), ("a {}",))[:8]
    '7389c1b6'
    """
    text = json.dumps([list(class_names), list(templates)], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def align(labels: Sequence[str], known: Prompts) -> tuple[int, ...]:
    """The place in `known.classes` of each of the data's labels, found by name; spelling counts by
    letters and digits.

    Where the lists agree line by line, places are kept: two of ImageNet's names occur twice. Bare
    numbers are class numbers where no class goes by that name. Raises DataError for labels that
    mean no class, and for two that mean one.

    >>> from diptych.datasets.class_names import align, prompts
    >>> align(("SeaLake", "annual crop land"), prompts("eurosat"))
    (9, 0)
    >>> align(("1", "0"), prompts("gtsrb"))
    (1, 0)
    """
    spelt = [{bare(label), *map(bare, names)} for label, names in known.classes.items()]
    if len(labels) == len(spelt) and all(
        bare(label) in spellings for label, spellings in zip(labels, spelt)
    ):
        return tuple(range(len(labels)))
    places = dict[str, int]()
    for place, names in enumerate(known.classes.values()):
        places |= dict.fromkeys(map(bare, names), place)
    places |= {bare(label): place for place, label in enumerate(known.classes)}
    found = [places.get(bare(label), -1) for label in labels]
    if -1 in found and all(label.isdecimal() and int(label) < len(spelt) for label in labels):
        found = [int(label) for label in labels]
    strange = [label for label, place in zip(labels, found) if place < 0]
    if strange:
        missing = [label for place, label in enumerate(known.classes) if place not in found]
        raise DataError(
            f"{len(strange)} of its {len(labels)} classes are none of the set's: {_some(strange)}; "
            f"the set's {len(missing)} without data are {_some(missing)}; "
            "class_names='data' takes the data's own names"
        )
    if len(set(found)) < len(found):
        twice = [label for label, place in zip(labels, found) if found.count(place) > 1]
        raise DataError(f"several of its classes mean the same: {_some(twice)}")
    return tuple(found)


def _some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more if names else "none"
