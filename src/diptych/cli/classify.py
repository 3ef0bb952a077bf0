"""diptych classify MODEL photos/ --names cat dog"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.pictures import check_out, left_out, pictures_of, tell_left_out, write_rows
from diptych.cli.show import Names, say, show
from diptych.config.ranges import Filled, Some
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Classify(Compute):
    """Which of some names fits a picture, or which class that is known by examples.

    diptych classify MODEL cat.jpg photos/ --names cat dog
    diptych classify MODEL photos/ --names names.txt --out predictions.csv

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
    """Pictures, folders of them, or tar shards."""
    names: tuple[str, ...] = ()
    """What it could be: names, or one text file with a name a line."""
    examples: str = ""
    """Instead of names: pictures of each class, in a folder for each, a table or shards."""
    templates: tuple[str, ...] = ()
    """The names are put into them: a set (name, simple, openai-80), templates such as 'a photo of a
    {}.', or a text file of them; simple, where nothing is said."""
    top: Some = 5
    """Names shown for each picture."""
    out: str = ""
    """Write the names of each picture, as many as are shown, to this file, .csv or .json."""


class _Answer(NamedTuple):
    picture: str
    name: str
    probability: float
    score: float
    """The cosine; by examples the logit."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if a picture couldn't be read, 2 if none could."""
    options = parse(Classify, "classify", arguments)
    if not options.images:
        raise ConfigError(
            "say at least one picture: `diptych classify MODEL PICTURE --names cat dog`"
        )
    if bool(options.names) == bool(options.examples):
        raise ConfigError("say what it could be: either --names cat dog, or --examples FOLDER")
    if options.examples and options.templates:
        raise ConfigError("--templates would be ignored: they are for --names")
    if options.out:
        check_out(options.out)
    answer = _by_examples if options.examples else _by_names
    return answer(options)


def _by_examples(options: Classify) -> int:
    from diptych.evaluation.examples import learn

    unread = list[str]()
    pictures = _pictures(options, unread)
    classifier = learn(options.load(options.model), options.examples)
    unread += [left_out(options.examples, line) for line in classifier.unread]
    say(f"learned from {classifier.examples} examples of {len(classifier.names)} classes")
    images, bad = [image for _, image in pictures], dict[int, str]()
    logits = classifier.logits(images, lambda place, error: bad.update({place: str(error)}))
    scores = (logits, logits.softmax(1))
    found = _answers(pictures, classifier.names, scores, bad, options.top, unread)
    return _tell(options, found, "linear probe", "logit", unread)


def _by_names(options: Classify) -> int:
    from diptych.datasets import templates

    names, chosen = _names(options.names), templates(options.templates or ("simple",))
    unread = list[str]()
    pictures = _pictures(options, unread)
    encoder = options.load(options.model)
    if len(names) == 1 and encoder.probability == "softmax":
        say(
            f"note: of a single name ({names[0]}) the probability is always 1; look at the cosine, "
            "or give other names that it could be",
            error=True,
        )
    images, bad = [image for _, image in pictures], dict[int, str]()
    scores = encoder.similarities(
        images, names, chosen, lambda place, error: bad.update({place: str(error)})
    )
    found = _answers(pictures, names, scores, bad, options.top, unread)
    return _tell(options, found, encoder.probability, "cosine", unread)


def _pictures(options: Classify, unread: list[str]) -> list[tuple[str, str | bytes]]:
    return [picture for path in options.images for picture in pictures_of(path, unread)]


def _tell(
    options: Classify,
    found: Sequence[Sequence[_Answer]],
    probability: str,
    score: str,
    unread: Sequence[str],
) -> int:
    code = tell_left_out(unread, len(found))
    if found:
        _show(found, probability, score)
    if found and options.out:
        head = (*_Answer._fields[:-1], score)
        say(write_rows(options.out, head, list(chain.from_iterable(found))))
    return code


def _names(words: Sequence[str]) -> tuple[str, ...]:
    """The words, or the lines of the file that the only one of them is."""
    from diptych.datasets.own_names import read_names

    if len(words) == 1 and (Path(words[0]).suffix == ".txt" or Path(words[0]).is_file()):
        words = read_names(Path(words[0]))
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ConfigError(f"the name {twice!r} stands twice in --names")
    return tuple(words)


def _answers(
    pictures: Sequence[tuple[str, str | bytes]],
    names: Sequence[str],
    scores: "tuple[Tensor, Tensor]",
    bad: Mapping[int, str],
    top: Some,
    unread: list[str],
) -> list[list[_Answer]]:
    """The best names of each picture, the best first, by scores and probabilities; the `bad`
    pictures, which have none, go to `unread`."""
    kept = [called for place, (called, _) in enumerate(pictures) if place not in bad]
    for place, reason in bad.items():
        unread.append(left_out(pictures[place][0], reason))
    found = list[list[_Answer]]()
    values, shares = scores
    for called, row, near in zip(kept, shares.tolist(), values.tolist()):
        answers = [_Answer(called, *each) for each in zip(names, row, near)]
        found.append(sorted(answers, key=lambda answer: -answer.probability)[:top])
    return found


def _show(found: Sequence[Sequence[_Answer]], probability: str, score: str) -> None:
    table = Names("picture", "name", f"probability ({probability})", score)
    for answers in found:
        for place, answer in enumerate(answers):
            called = answer.picture if place == 0 else ""
            share, value = f"{answer.probability:.1%}", f"{answer.score:.3f}"
            table.add_row(called, answer.name, share, value)
    show(table)
