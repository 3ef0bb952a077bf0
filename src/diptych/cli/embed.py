"""diptych embed MODEL PICTURES --out photos.index"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.pictures import kinds_of
from diptych.cli.show import say
from diptych.config.ranges import Share
from diptych.errors import CheckpointError, ConfigError, DataError, UnknownNameError
from diptych.writable import check_writable

if TYPE_CHECKING:
    from diptych.encoder import Encoder, Identity
    from diptych.search import Changes, Joined

_LISTED = 10
_OF_MODELS = ("run.json", "model.json", "config.json", "open_clip_config.json", "checkpoints")
"""What lies in a folder that is a model, which may hold pictures, too."""


@dataclass(frozen=True, kw_only=True)
class Embed(Compute):
    """Make an index of pictures, or bring it up to date.

    diptych embed MODEL PICTURES --out photos.index
    diptych embed MODEL captions.csv --texts --out captions.index

    An index knows its model, so that later `diptych embed PICTURES --out photos.index` is enough;
    it encodes what is new or changed and drops files that are missing from their folders. Where a
    folder is away, empty or closed, as a disk that isn't there now, it keeps them. Under torchrun
    each process encodes its share, and the first one writes.
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
    prune: bool = False
    """Drop all that isn't there any more: of these places, which may be gone, and of others."""
    exclude: tuple[str, ...] = ()
    """Leave out files and folders of these names (shell patterns, such as '*_small.jpg')."""
    texts: bool = False
    """Make an index of texts, which pictures or texts find: of lists (.txt, a text a line) or
    tables (csv, tsv, json, parquet)."""
    text_key: str = ""
    """The tables' column of texts; by default the first of some usual names."""
    metadata: tuple[str, ...] = ()
    """Tables (csv, tsv, json, parquet) of what else is known of the pictures, to filter by."""
    metadata_key: str = ""
    """Their column that names the pictures, by path, name or key; by default the first of some
    usual names."""
    max_bad_share: Share = 1.0
    """Fail (exit code 2) if a greater share of the pictures can't be read; the others are in the
    index all the same."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Embed, "embed", arguments)
    places, model = list(options.places), options.model
    if len(places) > 1 and not model and not _is_place(places[0], options.out):
        model = places.pop(0)
    if not places:
        raise ConfigError(
            "say one model and a place of pictures: `diptych embed MODEL PICTURES --out X.index`"
        )
    _check_texts(options)
    check_writable(options.out, "--out")
    from diptych.search.joined import check_table

    for table in options.metadata:
        check_table(table)
    embed = _embed_texts if options.texts else _embed_pictures
    embed(options, model, places)


def _is_place(path: str, index: str) -> bool:
    """Whether the first of several, where the index knows its model, is a place of pictures."""
    from diptych.data.pictures import is_picture

    if not os.path.exists(index) or not os.path.isdir(path):
        return os.path.exists(index) and (is_picture(path) or path.lower().endswith(".tar"))
    if any(os.path.exists(os.path.join(path, name)) for name in _OF_MODELS):
        return False
    return any(map(is_picture, chain.from_iterable(names for _, _, names in os.walk(path))))


def _embed_texts(options: Embed, model: str, places: Sequence[str]) -> None:
    from diptych.distributed import refuse_many
    from diptych.search import update_texts

    refuse_many("diptych embed --texts")
    encoder = _load(options, model, places[0], options.device)
    column, half = options.text_key, options.half
    _finish(
        options,
        update_texts(options.out, places, encoder, column=column, half=half, progress=True),
    )


def _embed_pictures(options: Embed, model: str, places: Sequence[str]) -> None:
    from diptych.distributed import connect, on_main, started_as, together
    from diptych.search import update

    started_as()
    with connect((options.device or "").partition(":")[0]) as peers:
        device = str(peers.device) if peers.size > 1 else options.device
        encoder = together(peers, lambda: _load(options, model, places[0], device))
        changes = update(
            options.out,
            places,
            encoder,
            half=options.half,
            prune=options.prune,
            exclude=options.exclude,
            batch_size=options.batch_size,
            progress=True,
            peers=peers,
        )
        on_main(peers, lambda: _finish(options, changes))


def _load(options: Embed, model: str, place: str, device: str | None) -> "Encoder":
    from diptych.search import Index

    if model:
        return options.load(model, options.dtype, device)
    if not os.path.exists(options.out):
        raise ConfigError(
            f"{options.out} is new, so say which model makes it: "
            f"`diptych embed MODEL {place} --out {options.out}`"
        )
    return _load_made_by(options, Index.open(options.out).made_by, device)


def _finish(options: Embed, changes: "Changes") -> None:
    from diptych.search import join

    _tell(changes)
    say(
        f"{options.out}: {changes.added} added, {changes.changed} changed, "
        f"{changes.removed} removed, {changes.kept} kept, {len(changes.unreadable)} unreadable"
    )
    changes.refuse_nothing()
    for table in options.metadata:
        _tell_joined(table, join(options.out, table, options.metadata_key))
    _check_share(changes, options.max_bad_share)


def _check_texts(options: Embed) -> None:
    """Raises ConfigError for flags that don't go together."""
    if options.texts and (options.prune or options.exclude or options.metadata):
        raise ConfigError("--prune, --exclude and --metadata are for pictures, not for --texts")
    if options.text_key and not options.texts:
        raise ConfigError(f"--text-key {options.text_key} is for --texts")


def _load_made_by(options: Embed, made_by: "Identity", device: str | None) -> "Encoder":
    if options.dtype not in ("fp32", made_by.dtype):
        raise ConfigError(
            f"--dtype {options.dtype}: {options.out} was made in {made_by.dtype}, and an index has "
            "one precision; leave the flag out"
        )
    try:
        return options.load(made_by.name, made_by.dtype, device)
    except (CheckpointError, UnknownNameError) as error:
        raise CheckpointError(
            f"{options.out} was made with {made_by.name}, which can't be loaded ({error}); if it "
            "has moved, say where: --model PLACE"
        ) from error


def _tell(changes: "Changes") -> None:
    """What isn't as one might think, on stderr."""
    lines = [
        f"left out: {reason if path in reason else f'{path}: {reason}'}"
        for path, reason in changes.unreadable
    ]
    _list(lines, "left out")
    if changes.others:
        _say(f"not pictures that are read: {kinds_of(changes.others)}")
    if changes.damaged:
        _say(
            f"damaged, and thrown away: {changes.damaged} entries; those whose pictures were found "
            "are made again"
        )
    if changes.known:
        _say(f"known by their content: {changes.known} of those added, which weren't encoded again")
    if changes.renamed:
        _say(f"not there any more: {changes.renamed} of their old names, kept until --prune")
    lines = [f"not seen: {path}: {count} entries kept" for path, count in changes.absent.items()]
    _list(lines, "not seen")
    if changes.absent:
        _say("--prune drops entries of files that aren't there any more")


def _tell_joined(table: str, joined: "Joined") -> None:
    said = f"{table}: {', '.join(joined.columns)} of {joined.pictures:,} pictures"
    if joined.unknown:
        said += f"; {joined.unknown:,} rows name none of the index's in the column {joined.column}"
    if joined.ambiguous:
        said += f"; {joined.ambiguous:,} have names that several pictures have: write their folders"
    _say(said)


def _list(lines: Sequence[str], what: str) -> None:
    for line in lines[:_LISTED]:
        _say(line)
    if len(lines) > _LISTED:
        _say(f"{what}: {len(lines) - _LISTED} more")


def _say(line: str) -> None:
    say(line, error=True)


def _check_share(changes: "Changes", allowed: float) -> None:
    bad = len(changes.unreadable)
    all_of_them = changes.added + changes.changed + changes.kept + bad
    if bad > allowed * all_of_them:
        raise DataError(
            f"{bad} of {all_of_them} pictures can't be read, more than the share of {allowed:g} "
            "that --max-bad-share allows; the others are in the index"
        )
