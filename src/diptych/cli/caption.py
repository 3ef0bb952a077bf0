"""diptych caption MODEL photos/"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.pictures import check_out, left_out, pictures_of, tell_left_out, write_rows
from diptych.cli.show import Names, say, show
from diptych.config.ranges import Count, Filled, Some
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Caption(Compute):
    """What a model that writes captions (CoCa, MaMMUT) writes of pictures.

    diptych caption coca-vit-l-14/mscoco_finetuned_laion2b_s13b_b90k cat.jpg photos/
    diptych caption MODEL photos/ --out captions.csv
    """

    model: Annotated[Positional[str], arg(metavar="MODEL"), Filled("MODEL")]
    """A run, a checkpoint, hf-hub:org/name, or a name with published weights."""
    images: Annotated[
        Positional[tuple[str, ...]], arg(metavar="PICTURE..."), Filled("PICTURE")
    ] = ()
    """Pictures, folders of them, or tar shards."""
    beams: Some = 2
    """Texts that are followed at a time; 1 is greedy search."""
    most: Some = 30
    """Tokens of a caption at the most, start and end included."""
    least: Count = 5
    """Tokens before which no caption ends, the start included."""
    batch_size: Some = 8
    """Pictures that are written of at a time."""
    out: str = ""
    """Write pictures and captions to this file, too, .csv or .json."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if a picture couldn't be read, 2 if none could."""
    options = parse(Caption, "caption", arguments)
    if not options.images:
        raise ConfigError("say at least one picture: `diptych caption MODEL PICTURE`")
    if options.out:
        check_out(options.out)
    unread = list[str]()
    found = chain.from_iterable(pictures_of(path, unread) for path in options.images)
    encoder, names, bad = options.load(options.model), list[str](), set[int]()

    def images() -> Iterator[str | bytes]:
        for called, image in found:
            names.append(called)
            yield image

    def unreadable(place: int, error: Exception) -> None:
        bad.add(place)
        unread.append(left_out(names[place], str(error)))

    captions = encoder.caption(
        images(),
        beams=options.beams,
        most=options.most,
        least=options.least,
        batch_size=options.batch_size,
        unreadable=unreadable,
    )
    kept = [called for place, called in enumerate(names) if place not in bad]
    rows, table = list(zip(kept, captions, strict=True)), Names("picture", "caption")
    for row in rows:
        table.add_row(*row)
    code = tell_left_out(unread, len(rows))
    if rows:
        show(table)
    if rows and options.out:
        say(write_rows(options.out, ("picture", "caption"), rows))
    return code
