"""diptych classify MODEL photos/ --names cat dog"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.pictures import Item, check_out, items_of, left_out, tell_left_out, write_rows
from diptych.cli.show import Names, say, show
from diptych.config import DataConfig
from diptych.config.ranges import Filled, Range, Some
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Classify(Compute):
    """Which of some names fits a picture, or which class that is known by examples.

    diptych classify MODEL cat.jpg photos/ --names cat dog
    diptych classify MODEL photos.csv --names names.txt --out predictions.csv

    The probability is shared among the names (softmax): it says which of them fits best, not
    whether any does. Of a model that was trained so (SigLIP), it is each name's own (sigmoid). The
    table says which. The cosine of picture and name doesn't depend on the other names.

    diptych classify MODEL new.jpg --examples photos-by-class/

    Without words, for a model that is an image tower alone, too: a linear classifier learns from
    examples of each class.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL"), Filled("MODEL")]
    """A run, a checkpoint, hf-hub:org/name, or a name with published weights."""
    images: Annotated[
        Positional[tuple[str, ...]], arg(metavar="PICTURE..."), Filled("PICTURE")
    ] = ()
    """Pictures, folders, tar shards, tables with a column of pictures, or patterns of such."""
    names: tuple[str, ...] = ()
    """What it could be: names, or one text file with a name a line."""
    prompts: str = ""
    """Instead of names: a file of each class's own prompts, {CLASS: [PROMPT, ...]} in JSON or CSV
    with the columns class,prompt."""
    examples: str = ""
    """Instead of names: pictures of each class, in a folder for each, a table or shards."""
    templates: tuple[str, ...] = ()
    """The names are put into them: a set (name, simple, openai-80), templates such as 'a photo of a
    {}.', or a text file of them; simple, where nothing is said."""
    scores: Literal["cosine", "softmax", "sigmoid"] | None = None
    """What is answered with; by default the probability that the model was trained for."""
    top: Some = 5
    """Names shown for each picture."""
    threshold: Annotated[float, Range(-1, 1)] | None = None
    """Only names with at least this score."""
    image_key: str = DataConfig.image_key
    """Of tables: the column of the picture's path or bytes."""
    json: bool = False
    """Instead of the table: a line of JSON for each picture, as soon as it is known."""
    out: str = ""
    """Write the names of each picture, as many as are shown, to this file, .csv or .json."""


_SHOWN = 20
"""Pictures in the table, where a file has them all."""
_Classes = Sequence[str] | Mapping[str, Sequence[str]]
"""Names, or the prompts of each."""


class _Judge(NamedTuple):
    """How pictures' vectors become answers."""

    encoder: "Encoder"
    names: Sequence[str]
    kind: str
    """Of the scores: cosine, softmax, sigmoid, or that it was learned."""
    columns: tuple[str, ...]
    """Of the numbers, the one that is asked for first; all of them have one order."""
    score: "Callable[[Tensor], tuple[Tensor, ...]]"
    """The numbers of pictures' vectors, [pictures, names] each."""


class _Answer(NamedTuple):
    name: str
    numbers: tuple[float, ...]


_Found = tuple[str, list[_Answer]]
"""What a picture is called, and its names, the best first."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if a picture couldn't be read, 2 if none could."""
    options = parse(Classify, "classify", arguments)
    _check(options)
    judge_of = _by_examples if options.examples else _by_names
    named, unread = _classes(options), list[str]()
    items = items_of(options.images, unread, options.image_key)
    if not items:
        return tell_left_out(unread, 0)
    judge = judge_of(options, named, unread)
    found = list[_Found]()
    for one in _answers(judge, items, options, unread):
        if options.json:
            say(_line(judge, *one))
        found.append(one)
    code = tell_left_out(unread, len(found))
    if found and not options.json:
        _show(judge, found[:_SHOWN] if options.out else found)
    if found and options.out:
        rows = chain.from_iterable(_rows(judge, *one) for one in found)
        written = write_rows(options.out, ("picture", "name", *judge.columns), rows)
        say(written, error=options.json)
    return code


def _check(options: Classify) -> None:
    if not options.images:
        raise ConfigError(
            "say at least one picture: `diptych classify MODEL PICTURE --names cat dog`"
        )
    if sum(map(bool, (options.names, options.prompts, options.examples))) != 1:
        raise ConfigError(
            "say what it could be: either --names cat dog, --prompts FILE or --examples FOLDER"
        )
    if options.templates and not options.names:
        raise ConfigError("--templates would be ignored: they are for --names")
    if options.examples and options.scores not in (None, "softmax"):
        raise ConfigError(f"--scores {options.scores} is for names; examples give a softmax")
    if options.out:
        check_out(options.out)


def _classes(options: Classify) -> _Classes:
    """Names, or prompts of each; known before a model is loaded."""
    from diptych.datasets.own_names import read_names
    from diptych.datasets.templates import read_prompts

    if options.prompts:
        return read_prompts(options.prompts)
    words = options.names
    if len(words) == 1 and (Path(words[0]).suffix == ".txt" or Path(words[0]).is_file()):
        words = read_names(Path(words[0]))
    elif len(words) == 1 and "," in words[0] and options.scores in (None, "softmax"):
        raise ConfigError(
            f"--names {words[0]!r} is a single name, of probability 1; several stand apart, "
            "without commas: --names cat 'a sea horse'"
        )
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ConfigError(f"the name {twice!r} stands twice in --names")
    return words


def _by_examples(options: Classify, _: _Classes, unread: list[str]) -> _Judge:
    from diptych.evaluation.examples import learn

    encoder = options.load(options.model)
    classifier = learn(encoder, options.examples)
    unread += [left_out(options.examples, line) for line in classifier.unread]
    said = f"learned from {classifier.examples} examples of {len(classifier.names)} classes"
    say(said, error=options.json)

    def score(vectors: "Tensor") -> "tuple[Tensor, ...]":
        logits = classifier.probe.scores(vectors)
        return logits.softmax(1), logits

    columns = ("probability", "logit")
    return _Judge(encoder, classifier.names, "linear probe", columns, score)


def _by_names(options: Classify, named: _Classes, unread: list[str]) -> _Judge:
    from diptych.datasets import templates

    chosen = templates(options.templates or ("simple",))
    encoder = options.load(options.model)
    kind, names = options.scores or encoder.probability, list(named)
    if len(names) == 1 and kind == "softmax":
        say(
            f"note: of a single name ({names[0]}) the probability is always 1; look at the cosine, "
            "or give other names that it could be",
            error=True,
        )
    classes = encoder.class_vectors(named, chosen)

    def score(vectors: "Tensor") -> "tuple[Tensor, ...]":
        cosines = vectors @ classes.T
        return (cosines,) if kind == "cosine" else (encoder.scores(cosines, kind), cosines)

    columns = ("cosine",) if kind == "cosine" else ("probability", "cosine")
    return _Judge(encoder, names, kind, columns, score)


def _answers(
    judge: _Judge, items: Sequence[Item], options: Classify, unread: list[str]
) -> Iterator[_Found]:
    """The best names of each picture, in order; pictures that can't be read go to `unread`."""
    batches = judge.encoder.stream(
        items,
        read=lambda item: item.read(),
        name=lambda item: item.called,
        batch_size=options.batch_size,
        total=len(items),
        progress=len(items) > options.batch_size,
        unreadable=lambda item, error: unread.append(left_out(item.called, str(error))),
    )
    for some, vectors in batches:
        numbers = judge.score(vectors)
        order = numbers[-1].argsort(dim=1, descending=True, stable=True)[:, : options.top]
        columns = [each.gather(1, order).tolist() for each in numbers]
        for item, row, *values in zip(some, order.tolist(), *columns, strict=True):
            yield item.called, _named(judge, row, values, options.threshold)


def _named(
    judge: _Judge, row: Sequence[int], values: Sequence[Sequence[float]], threshold: float | None
) -> list[_Answer]:
    """The answers of one picture: of the places `row` among the names the `values`, by columns."""
    return [
        _Answer(judge.names[place], numbers)
        for place, numbers in zip(row, zip(*values, strict=True), strict=True)
        if threshold is None or numbers[0] >= threshold
    ]


def _line(judge: _Judge, called: str, answers: Sequence[_Answer]) -> str:
    names = [{"name": name} | dict(zip(judge.columns, numbers)) for name, numbers in answers]
    return json.dumps({"picture": called, "scores": judge.kind, "names": names})


def _rows(judge: _Judge, called: str, answers: Sequence[_Answer]) -> list[tuple[object, ...]]:
    """A picture of which nothing is enough has a row without a name."""
    if not answers:
        return [(called, "", *("" for _ in judge.columns))]
    return [(called, name, *numbers) for name, numbers in answers]


def _show(judge: _Judge, found: Sequence[_Found]) -> None:
    titles = [
        f"probability ({judge.kind})" if title == "probability" else title
        for title in judge.columns
    ]
    table = Names("picture", "name", *titles)
    for called, answers in found:
        for place, row in enumerate(_rows(judge, called, answers)):
            numbers = map(_shown, judge.columns, row[2:])
            table.add_row(called if place == 0 else "", str(row[1]) or "-", *numbers)
    show(table)


def _shown(title: str, number: object) -> str:
    if not isinstance(number, float):
        return ""
    return f"{number:.1%}" if title == "probability" else f"{number:.3f}"
