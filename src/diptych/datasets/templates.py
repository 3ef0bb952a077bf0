"""Templates that turn a class name into captions, under names."""

import csv
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_text
from diptych.datasets.imagenet_templates import EIGHTY
from diptych.datasets.own_names import some, spelt
from diptych.errors import ConfigError, DataError, UnknownNameError, first_line

_SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""What a forward search over ImageNet's eighty ended with; github.com/openai/CLIP, MIT licence."""
TEMPLATES: dict[str, tuple[str, ...]] = {
    "name": ("{}",),
    "simple": ("a photo of a {}.",),
    "openai-7": _SEVEN,
    "openai-80": EIGHTY,
    # DeCLIP's, by their number; github.com/Sense-GVT/DeCLIP, prototype/data/datasets/prompts.
    "declip-1": ("a photo of a {}.",),
    "declip-6": (
        "a photo of a {}.",
        "a photo of a big {}.",
        "a photo of a small {}.",
        "a {} on the photo.",
        "a big {} on the photo.",
        "a small {} on the photo.",
    ),
    "declip-8": ("a photo of a {}", *_SEVEN),
    "declip-80": EIGHTY,
}


_PLACEHOLDER = re.compile(r"\{(0|c|class|classname|class_name|label|name)?\}", re.IGNORECASE)
"""Where the class name goes: ours, CLIP_benchmark's, and what others write."""


def templates(choice: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of that name, those of a text file, one a line, or of a JSON file, a list; a
    template stands for itself, and a sequence for all that is in it. Where the class name goes
    stands `{}`, `{c}` or `{classname}`.

    Raises ConfigError for a template without a place for the class name, UnknownNameError for a
    word that is neither a name, a file nor a template, DataError for a file that can't be read.

    >>> from diptych.datasets import templates
    >>> templates("simple"), templates(["a sketch of a {c}.", "name"])
    (('a photo of a {}.',), ('a sketch of a {}.', '{}'))
    """
    if not isinstance(choice, str):
        found = dict.fromkeys(itertools.chain.from_iterable(map(templates, choice)))
        return tuple(found)
    if choice in TEMPLATES:
        return TEMPLATES[choice]
    path = Path(choice).expanduser()
    if path.suffix in (".txt", ".json") or ("{" not in choice and path.is_file()):
        return tuple(map(template, _read(path)))
    if "{" not in choice and " " not in choice.strip():
        raise UnknownNameError("set of templates", choice, TEMPLATES)
    return (template(choice),)


def template(text: str) -> str:
    """With `{}` where the class name goes. Raises ConfigError where it doesn't say.

    >>> from diptych.datasets.templates import template
    >>> template("a photo of a {classname}.")
    'a photo of a {}.'
    """
    plain = _PLACEHOLDER.sub("{}", text)
    if "{}" not in plain:
        raise ConfigError(
            f"the template {text!r} doesn't say where the class name goes: write {{}} there, as in "
            "'a photo of a {}.'"
        )
    return plain


def class_prompts(path: str | Path, class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The prompts of each class in a JSON file `{class: [prompt, …]}` (CuPL's), or `{dataset:
    {class: [prompt, …]}}` of one dataset; empty where the file holds templates.

    Classes are found by name, other ones of the file are left out. Raises DataError for a file that
    holds neither, and where a class has no prompts.
    """
    values = _by_class(Path(path).expanduser())
    if values is None:
        return ()
    known = {spelt(name): _texts(path, lines) for name, lines in values.items()}
    missing = [name for name in class_names if not known.get(spelt(name))]
    if len(missing) == len(class_names) and len(values) == 1:
        return ()
    if missing:
        raise DataError(f"{path} has no prompts of {len(missing)} classes: {some(missing)}")
    return tuple(
        tuple(_PLACEHOLDER.sub(lambda _, name=name: name, text) for text in known[spelt(name)])
        for name in class_names
    )


def _by_class(path: Path) -> dict[str, Any] | None:
    """What a JSON file says of each class, also where one dataset's name stands above them; None:
    it holds something else."""
    values = _json(path)
    if isinstance(values, dict) and len(values) == 1:
        [inner] = values.values()
        return inner if isinstance(inner, dict) else values
    return values if isinstance(values, dict) else None


def read_prompts(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Class -> its prompts, in the order of the file: JSON, as `class_prompts` reads it, or CSV of
    two columns, `class,prompt`, with a row for each prompt. Raises DataError for anything else.

    >>> import tempfile
    >>> from diptych.datasets.templates import read_prompts
    >>> path = Path(tempfile.mkdtemp(), "prompts.csv")
    >>> _ = path.write_text("class,prompt\\ncat,a cat\\ncat,a kitten\\ndog,a dog")
    >>> read_prompts(path)
    {'cat': ('a cat', 'a kitten'), 'dog': ('a dog',)}
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".json":
        names = tuple(_by_class(path) or ())
        prompts = class_prompts(path, names) if names else ()
        if not prompts:
            raise DataError(f"{path} holds no prompts: write {{CLASS: [PROMPT, …], …}}")
        return dict(zip(names, prompts, strict=True))
    found = dict[str, list[str]]()
    text = _text(path)
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""))):
            if number == 0 and [cell.strip().lower() for cell in row] == ["class", "prompt"]:
                continue
            name, prompt = row
            found.setdefault(name.strip(), []).append(prompt.strip())
    except csv.Error as error:
        raise _unreadable(path, error) from None
    except ValueError:
        raise DataError(
            f"{path} has a row that isn't a class and a prompt: write two columns, class,prompt"
        ) from None
    words = [*found, *itertools.chain.from_iterable(found.values())]
    if not words or not all(words):
        raise DataError(f"{path} has no prompts, or an empty one: write two columns, class,prompt")
    return {name: tuple(prompts) for name, prompts in found.items()}


def _read(path: Path) -> Sequence[str]:
    """The lines of a text file, or the list in a JSON file, of one dataset's name or of none."""
    if path.suffix == ".json":
        values = _json(path)
        if isinstance(values, dict) and len(values) == 1:
            [values] = values.values()
        return _texts(path, values)
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _json(path: Path) -> Any:
    try:
        return parse_json(_text(path))
    except ValueError as error:
        raise _unreadable(path, error) from None


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"the prompts in {path} can't be read: {first_line(error)}")


def _texts(path: str | Path, values: Any) -> tuple[str, ...]:
    texts = (values,) if isinstance(values, str) else values
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{path} holds no prompts: write [TEMPLATE, …], or {{CLASS: [PROMPT, …], …}}, of one "
            "dataset"
        )
    return tuple(texts)
