"""diptych explain MODEL cat.jpg "a cat" "a dog" --out maps.png"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.pictures import Item, items_of, left_out, read, tell_left_out
from diptych.cli.show import Names, say, show
from diptych.config.ranges import Filled, Some
from diptych.errors import ConfigError
from diptych.writable import check_file

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.encoder import Encoder

_NUMBERS = ".npz"
_KINDS = (".png", ".jpg", ".pdf", ".svg", _NUMBERS)
_LONGEST, _MOST = 200, 1000
"""Squares of a figure, in a row or a column, and in all: matplotlib draws no side of 2^16 dots, and
a thousand squares are 400 MB while they are drawn."""


@dataclass(frozen=True, kw_only=True)
class Explain(Compute):
    """Heat maps: where in a picture a text is, as the model sees it.

    diptych explain MODEL cat.jpg "a cat" "a dog" --out maps.png
    diptych explain MODEL photos/ "a cat" --out maps.npz       # the numbers

    A row for each picture: the square that the image tower sees (NaFlex: the whole picture), then
    the square under the map of each text. The table says where the highest number of each map is,
    in shares of the square.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL"), Filled("MODEL")]
    """A run, a checkpoint, hf-hub:org/name, or a name with published weights."""
    image: Annotated[Positional[str], arg(metavar="PICTURE"), Filled("PICTURE")]
    """A picture, a folder of them, or a tar shard."""
    texts: Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT...")] = ()
    """What to look for."""
    out: str
    """.png, .jpg, .pdf or .svg: the maps over their pictures; .npz: the numbers, `maps` of
    [pictures, texts, rows, columns] with `pictures` and `texts`."""
    batch_size: Some = 8
    """Pictures that the tower sees at a time."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if a picture couldn't be read, 2 if none could."""
    options = parse(Explain, "explain", arguments)
    if not options.texts:
        raise ConfigError('say at least one text: `diptych explain MODEL PICTURE "a cat"`')
    out = Path(options.out).expanduser()
    kind = out.suffix.lower()
    if kind not in _KINDS:
        raise ConfigError(f"--out {out}: say a file that ends in {', '.join(_KINDS)}")
    check_file(out, "--out")
    unread, bad = list[str](), set[int]()
    items = items_of([options.image], unread)
    if kind != _NUMBERS:
        _refuse_too_many(out, len(items), len(options.texts))
    encoder, tried = options.load(options.model), list[Item]()

    def unreadable(place: int, error: Exception) -> None:
        bad.add(place)
        unread.append(left_out(tried[place].called, str(error)))

    images = read(items, unread, tried)
    maps = encoder.explain(images, options.texts, options.batch_size, unreadable)
    kept = [item for place, item in enumerate(tried) if place not in bad]
    if kept:
        _write(out, encoder, kept, options.texts, maps)
        _show([item.called for item in kept], options.texts, maps)
        say(out)
    return tell_left_out(unread, len(kept))


def _refuse_too_many(out: Path, pictures: int, texts: int) -> None:
    """Raises ConfigError for more maps than a figure can hold."""
    columns = 1 + texts
    if max(pictures, columns) > _LONGEST or pictures * columns > _MOST:
        raise ConfigError(
            f"--out {out}: pictures x (1 + texts) is {pictures} x {columns}, and a figure holds "
            f"{_LONGEST} squares in a row or a column and {_MOST} in all; {_NUMBERS} holds any "
            "number"
        )


def _write(
    out: Path,
    encoder: "Encoder",
    items: Sequence[Item],
    texts: Sequence[str],
    maps: "Tensor",
) -> None:
    import numpy as np

    from diptych.durable import write_file
    from diptych.reports.heat import overlay

    names = [item.called for item in items]

    def write(target: Path) -> None:
        with open(target, "wb") as file:
            kind = out.suffix.lower()
            if kind == _NUMBERS:
                np.savez(file, maps=maps.numpy(), pictures=names, texts=list(texts))
                return
            seen = [encoder.preprocess.seen(item.read()) for item in items]
            figure = overlay(seen, maps, texts, names)
            figure.savefig(file, format=kind[1:], dpi=110)

    write_file(out, write)


def _show(names: Sequence[str], texts: Sequence[str], maps: "Tensor") -> None:
    table = Names("picture", "text", "from", "to", "highest at (right, down)")
    side = maps.shape[-1]
    for name, its_maps in zip(names, maps, strict=True):
        for place, (text, each) in enumerate(zip(texts, its_maps, strict=True)):
            row, column = divmod(int(each.argmax()), side)
            where = f"{(column + 0.5) / side:.2f}, {(row + 0.5) / side:.2f}"
            bounds = (f"{float(each.min()):.3f}", f"{float(each.max()):.3f}")
            table.add_row("" if place else name, text, *bounds, where)
    show(table)
