"""diptych classify MODEL photos/ --names cat dog"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.pictures import check_out, left_out, pictures_of, write_rows
from diptych.cli.show import Names, say, show
from diptych.config.ranges import Filled, Some
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Classify(Compute):
    """Which of some names fits a picture.

    diptych classify MODEL cat.jpg photos/ --names cat dog
    diptych classify MODEL photos/ --names names.txt --out predictions.csv

    The probability is shared among the names (softmax): it says which of them fits best, not
    whether any does. Of a model that was trained so (SigLIP), it is each name's own (sigmoid). The
    table says which. The cosine of picture and name doesn't depend on the other names.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL"), Filled("MODEL")]
    """A run, a checkpoint, hf-hub:org/name, or a name with published weights."""
    images: Annotated[
        Positional[tuple[str, ...]], arg(metavar="PICTURE..."), Filled("PICTURE")
    ] = ()
    """Pictures, folders of them, or tar shards."""
    names: tuple[str, ...]
    """What it could be: names, or one text file with a name a line."""
    templates: tuple[str, ...] = ("simple",)
    """The names are put into them: a set (name, simple, openai-80), templates such as 'a photo of a
    {}.', or a text file of them."""
    top: Some = 5
    """Names shown for each picture."""
    out: str = ""
    """Write the names of each picture, as many as are shown, to this file, .csv or .json."""


class _Answer(NamedTuple):
    picture: str
    name: str
    probability: float
    cosine: float


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if a picture couldn't be read."""
    options = parse(Classify, "classify", arguments)
    if not options.images:
        raise ConfigError(
            "say at least one picture: `diptych classify MODEL PICTURE --names cat dog`"
        )
    if options.out:
        check_out(options.out)

    from diptych.datasets import templates

    names, chosen = _names(options.names), templates(options.templates)
    unread = list[str]()
    pictures = [picture for path in options.images for picture in pictures_of(path, unread)]
    encoder = options.load(options.model)
    if len(names) == 1 and encoder.probability == "softmax":
        say(
            f"note: of a single name ({names[0]}) the probability is always 1; look at the cosine, "
            "or give other names that it could be",
            error=True,
        )
    found = _answers(encoder, pictures, names, chosen, options.top, unread)
    _show(found, encoder.probability)
    for line in unread:
        say(f"left out: {line}", error=True)
    if options.out:
        say(write_rows(options.out, _Answer._fields, list(chain.from_iterable(found))))
    return 1 if unread else 0


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
    encoder: "Encoder",
    pictures: Sequence[tuple[str, str | bytes]],
    names: Sequence[str],
    templates: Sequence[str],
    top: Some,
    unread: list[str],
) -> list[list[_Answer]]:
    """The best names of each picture, the best first; what can't be read goes to `unread`."""
    bad = dict[int, str]()
    cosines, shares = encoder.similarities(
        [image for _, image in pictures],
        names,
        templates,
        unreadable=lambda place, error: bad.update({place: str(error)}),
    )
    kept = [called for place, (called, _) in enumerate(pictures) if place not in bad]
    for place, reason in bad.items():
        unread.append(left_out(pictures[place][0], reason))
    found = list[list[_Answer]]()
    for called, row, near in zip(kept, shares.tolist(), cosines.tolist()):
        answers = [_Answer(called, *each) for each in zip(names, row, near)]
        found.append(sorted(answers, key=lambda answer: -answer.probability)[:top])
    return found


def _show(found: Sequence[Sequence[_Answer]], probability: str) -> None:
    table = Names("picture", "name", f"probability ({probability})", "cosine")
    for answers in found:
        for place, answer in enumerate(answers):
            called = answer.picture if place == 0 else ""
            share, cosine = f"{answer.probability:.1%}", f"{answer.cosine:.3f}"
            table.add_row(called, answer.name, share, cosine)
    show(table)
