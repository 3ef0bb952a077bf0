"""diptych embed MODEL PICTURES --out photos.index"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.errors import ConfigError

_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Embed(Compute):
    """Make an index of pictures, or bring it up to date.

    diptych embed MODEL PICTURES --out photos.index

    An index knows its model, so that later `diptych embed PICTURES --out photos.index` is enough;
    it encodes what is new or changed and drops what has vanished.
    """

    places: Annotated[Positional[tuple[str, ...]], arg(metavar="[MODEL] PICTURES...")] = ()
    """A model (a run, a checkpoint, hf-hub:org/name, a name); then folders, pictures, or tar shards
    such as 'a/{00..09}.tar'."""
    out: Annotated[str, arg(metavar="X.index")]
    """The index's folder."""
    model: str = ""
    """Another way to say MODEL."""
    half: bool = False
    """Store a new index in float16: half the size, scores rounded at the fourth digit."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Embed, "embed", arguments)
    places, model = list(options.places), options.model
    if len(places) > 1 and not model:
        model = places.pop(0)
    if not places:
        raise ConfigError(
            "say one model and a place of pictures: `diptych embed MODEL PICTURES --out X.index`"
        )

    from diptych.search import Index, update

    dtype = options.dtype
    if not model:
        if not os.path.exists(options.out):
            raise ConfigError(
                f"{options.out} is new, so say which model makes it: "
                f"`diptych embed MODEL {places[0]} --out {options.out}`"
            )
        made_by = Index.open(options.out).made_by
        model, dtype = made_by.name, made_by.dtype
    encoder = options.load(model, dtype)
    changes = update(
        options.out,
        places,
        encoder,
        half=options.half,
        batch_size=options.batch_size,
        progress=True,
    )
    for path, reason in changes.unreadable[:_LISTED]:
        print(f"left out: {reason if path in reason else f'{path}: {reason}'}", file=sys.stderr)
    if len(changes.unreadable) > _LISTED:
        print(f"left out: {len(changes.unreadable) - _LISTED} more", file=sys.stderr)
    if changes.others:
        kinds = [f"{ending} {count}" for ending, count in sorted(changes.others.items())]
        print(f"not pictures that are read: {', '.join(kinds)}", file=sys.stderr)
    print(
        f"{options.out}: {changes.added} added, {changes.changed} changed, "
        f"{changes.removed} removed, {changes.kept} kept, {len(changes.unreadable)} unreadable"
    )
