"""Making an index, and bringing it up to date: only what is new or changed is encoded."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from diptych.distributed import Peers, on_main
from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError
from diptych.search import meta, store, writer
from diptych.search.encoding import Encoding
from diptych.search.metadata import complete
from diptych.search.pictures import NOT_PICTURES, Listing, NoPlaceError, roots
from diptych.search.settle import Settled, settle


@dataclass(kw_only=True)
class Changes:
    """What an update did, in pictures."""

    added: int = 0
    changed: int = 0
    """Encoded again, because their files have another content."""
    removed: int = 0
    """Their files have vanished."""
    kept: int = 0
    known: int = 0
    """Of those added: under another name, the index had the same picture, so its vector was
    taken."""
    renamed: int = 0
    """Old names of those, kept although nothing is there, as on a disk that isn't there now."""
    damaged: int = 0
    """Entries that weren't as they were written, and were thrown away; their pictures are encoded
    again where they are found."""
    absent: Counter[str] = field(default_factory=Counter[str])
    """Entries kept although their files can't be seen, by the file or folder that is away, empty
    or can't be read; `prune` drops what isn't there any more."""
    unreadable: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(path, reason) of what couldn't be read; tried again by the next update."""
    others: Counter[str] = field(default_factory=Counter[str])
    """Files that are no pictures, by their endings; linked folders, which aren't entered; what was
    left out by its name."""

    def refuse_nothing(self) -> None:
        """Raises DataError if there were pictures, and none could be read."""
        if self.unreadable and not (self.added or self.changed or self.kept):
            count, (_, reason) = len(self.unreadable), self.unreadable[0]
            raise DataError(f"none of {count} pictures can be read; the first: {reason}")


def _unsaid(done: int, total: int) -> None:
    """Nobody asks how far it is."""


def update(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    *,
    half: bool = False,
    prune: bool = False,
    exclude: Sequence[str] = (),
    batch_size: int = 32,
    chunk: int = 256,
    progress: bool = False,
    on_progress: Callable[[int, int], object] = _unsaid,
    peers: Peers | None = None,
) -> Changes:
    """Make the index in `folder` hold exactly the pictures of `source` (a folder, a tar shard, a
    brace or shell pattern, or several of them).

    Pictures of the index that lie elsewhere stay as they are. One is dropped when its file is
    missing from its folder; where the folder is missing, empty or can't be read, which is how a
    disk looks that isn't there now, it stays. `prune` drops what isn't there any more, wherever it
    was. A file that was touched, renamed or moved is known by its content and keeps its vector.
    Files and folders with a name like one of `exclude` are left out.

    Vectors are written in chunks of `chunk` pictures: a killed update loses no more than one, an
    interrupted one none, and the next goes on from there. No index is left of pictures of which
    none can be read. With `peers` every process calls it and encodes its share, and the first one
    writes. `half` stores a new index in float16. The same model in another place is the index's
    from then on. Entries that aren't as they were written are made again.

    Raises ConfigError if the index was made by another model, DataError if there is no `source`, or
    no picture in it nor in the index of it, or something other than an index lies in `folder`.

    >>> import tempfile
    >>> from PIL import Image
    >>> from diptych import Encoder, models, search, pretrained
    >>> folder = tempfile.mkdtemp()
    >>> Image.new("RGB", (60, 40)).save(f"{folder}/black.png")
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> search.update(f"{folder}/index", folder, encoder).added
    1
    >>> search.update(f"{folder}/index", folder, encoder).kept
    1
    """
    peers = peers or Peers()
    with ExitStack() as held:

        def begin() -> tuple[Changes, Settled]:
            return _begin(held, folder, source, encoder, half, prune, exclude, progress)

        changes, settled = on_main(peers, begin)
        found = Encoding(settled.new)
        try:
            found.run(
                folder,
                encoder,
                peers,
                batch_size=batch_size,
                chunk=chunk,
                progress=progress,
                on_progress=on_progress,
            )
        finally:
            again = sum(path in settled.stale for path in found.written)
            changes.changed += again
            changes.added += len(found.written) - again
            changes.unreadable += found.unreadable
        if settled.is_new and not found.written and found.unreadable:
            on_main(peers, lambda: writer.discard(folder))
        else:
            on_main(peers, lambda: complete(folder, progress))
    return changes


def _begin(
    held: ExitStack,
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    half: bool,
    prune: bool,
    exclude: Sequence[str],
    progress: bool,
) -> tuple[Changes, Settled]:
    """All but encoding: look, and let what was there be what it is to be. The index's lock goes to
    `held`."""
    is_there, listing = meta.exists(folder), Listing((*NOT_PICTURES, *exclude))
    places = _roots(source, is_there, prune)
    for place in places:
        listing.add(place)
    if not is_there and not (listing.pictures or listing.unread):
        raise _nothing(places, listing)
    held.enter_context(meta.locked(folder))
    is_new = open_or_create(folder, encoder, half, "pictures")
    writer.describe(folder, encoder.identity, places, exclude, prune)
    complete(folder, progress)
    settled = settle(folder, listing, prune)
    settled.is_new = is_new
    if not (listing.pictures or listing.unread or settled.removed or settled.absent):
        raise _nothing(places, listing)
    changes = Changes(
        added=settled.known,
        known=settled.known,
        renamed=settled.renamed,
        removed=settled.removed,
        kept=settled.kept,
        damaged=settled.damaged,
        absent=settled.absent,
        unreadable=list(listing.unread.items()),
        others=listing.others,
    )
    return changes, settled


def _roots(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], is_there: bool, prune: bool
) -> list[str]:
    try:
        return roots(source, missing=is_there and prune)
    except NoPlaceError as error:
        if not is_there:
            raise
        raise DataError(f"{error}; with --prune, the index forgets a place that is gone") from None


def _nothing(places: Sequence[str], listing: Listing) -> DataError:
    kinds = ", ".join(f"{ending} {count}" for ending, count in listing.others.most_common(5))
    return DataError(
        f"there are no pictures in {', '.join(places)}" + (f", only {kinds}" if kinds else "")
    )


def open_or_create(
    folder: str | os.PathLike[str],
    encoder: Encoder,
    half: bool,
    holds: Literal["pictures", "texts"],
) -> bool:
    """Make the index (True), or see that it is this model's and holds such things. Under the lock:
    another process may just have made it."""
    is_new = not meta.exists(folder)
    if is_new:
        kind = "float16" if half else "float32"
        writer.create(
            folder,
            meta.IndexMeta(model=encoder.identity, width=encoder.width, vectors=kind, holds=holds),
        )
    index = store.Store(folder)
    index.check_model(encoder.identity)
    if index.meta.holds != holds:
        raise ConfigError(f"{folder} is an index of {index.meta.holds}; {holds} need another")
    if half and index.meta.vectors != "float16":
        raise ConfigError(
            f"{folder} holds vectors in {index.meta.vectors}; --half is for a new index"
        )
    meta.sweep_generations(index.folder, index.meta)
    return is_new
