"""From `data.path` to a source: which kind it is, and what is wrong when it is none."""

import glob
import itertools
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from diptych.components import implementation, type_name
from diptych.config import DataConfig, SourceConfig
from diptych.data.braces import expand_braces
from diptych.data.elsewhere import piped, remote
from diptych.data.files import Store
from diptych.data.indexing import open_index
from diptych.data.joined import Chosen, Joined
from diptych.data.keep import KeptIds, keep, open_kept
from diptych.data.layout import PACKED, FolderReader
from diptych.data.probes import probe, refuse_bad, said_of_neighbours
from diptych.data.remote import is_remote, shown
from diptych.data.shard_ids import open_shard_ids
from diptych.data.shards import Shards
from diptych.data.share import rows_of_share
from diptych.data.source import Captioner, Source, alternatives, captioner_of
from diptych.data.spool import cache_folder
from diptych.data.synthetic import Synthetic
from diptych.data.tables import TableSource, is_list, is_table
from diptych.data.tar import is_tar
from diptych.distributed import Peers
from diptych.errors import AbsentError, ConfigError, DataError, DataWarning, beside

_KINDS = (
    "shards (.tar), a table (.csv, .tsv, .parquet, .jsonl, .json), a folder of pictures with "
    "captions or of a sub-folder per class, shards at s3://, hf:// or https://, pipe:COMMAND or "
    "synthetic:COUNT"
)


def open_source(
    config: DataConfig,
    *,
    captions: bool = True,
    alone: bool = False,
    class_names: Sequence[str] = (),
    flags: str = "--data.",
    split: str = "",
    peers: Peers | None = None,
) -> Source:
    """The source, or mixture of sources, that `config.path` names.

    With `captions=False` pictures without one are fine (evaluation by label, embedding); `alone`:
    nothing but pictures is looked for, and captions and classes are left where they are.
    `class_names` are those of the labels in shards and tables, where `config` names no file of
    them; class folders have their own. A few
    samples are tried at once: a source of which none can be used raises DataError here, with the
    reason, and not an hour later. What may be meant otherwise is a DataWarning. `flags` is what the
    flags of these settings begin with, for messages. With a `split` ("train"), a table whose column
    `split` names it and others gives its rows alone; "train" gives what `config.keep` lists of the
    samples, and `config.share` of these.
    Where all `peers` open it, each asks for the state of its share of the shards.

    >>> from diptych.config import DataConfig
    >>> from diptych.data import open_source
    >>> source = open_source(DataConfig(path="synthetic:1000"))
    >>> len(source), source[7].captions
    (1000, ('a photo of a white ring.',))
    """
    lists = _open_lists(config, split)
    if config.source is not None:
        return _shared(_open_own(config.source, config, lists[0]), config, split)
    if not config.path:
        raise ConfigError(f"{flags}path is empty; give it {_KINDS}")
    needed = captions and not alone
    captioner = captioner_of(config, needed=needed, class_names=tuple(class_names), flags=flags)
    captioner = replace(captioner, alone=alone)
    paths = config.path.split("::")
    roots = _one_each(config.image_root, len(paths))
    parts = list[Source]()
    for address, root, kept in zip(map(str.strip, paths), roots, lists, strict=True):
        ids = kept.field if kept else ""
        opener, path = _Opener(config, captioner, root, peers, ids), shown(address)
        part = opener.open(address)
        refuse_bad(path, part, config.max_bad_share, flags)
        chosen, left_out = _rows_of(part, split)
        chosen, kept_of = _listed(chosen, kept, path, config)
        probed = (*probe(path, chosen, flags), *said_of_neighbours(path, chosen, config, flags))
        for remark in (*part.remarks, *left_out, *kept_of, *(() if alone else probed)):
            warnings.warn(remark, DataWarning, stacklevel=2)
        parts.append(_shared(chosen, config, split))
    if len(parts) == 1:
        return parts[0]
    weights = config.weights
    if config.upsample:
        sizes = map(len, parts)
        weights = tuple(n * size for n, size in zip(config.upsample, sizes, strict=True))
    return Joined(parts, weights, tuple(shown(path.strip()) for path in paths))


def _one_each(setting: str, sources: int) -> list[str]:
    """A setting of each source: one for all, or one each, joined as they are."""
    found = list(map(str.strip, setting.split("::")))
    return found if len(found) == sources else found * sources


def _open_lists(config: DataConfig, split: str) -> list[KeptIds | None]:
    """For each source the ids of which it gives the samples; None: it gives all."""
    sources = len(config.path.split("::"))
    if not config.keep or split != "train":
        return [None] * sources
    files = _one_each(config.keep, sources)
    fields = _one_each(config.keep_field, sources)
    return [
        open_kept(file, field, cache_folder(config)) if file else None
        for file, field in zip(files, fields, strict=True)
    ]


def _listed(
    source: Source, kept: KeptIds | None, name: str, config: DataConfig
) -> tuple[Source, tuple[str, ...]]:
    """The samples that are listed, and how many these are."""
    if kept is None or not len(source):
        return source, ()
    chosen, said = keep(source, kept, name, cache_folder(config))
    return chosen, (said,)


def _rows_of(source: Source, split: str) -> tuple[Source, tuple[str, ...]]:
    """Those of a split, and what is left out; all of a source without splits."""
    if not split or not isinstance(source, TableSource):
        return source, ()
    parts = source.parts()
    if split not in parts:
        return source, ()
    rows = parts[split]
    return Chosen(source, rows), (
        f"{source.path} says in a column which split a row belongs to: the {len(rows):,} of "
        f"{split!r} are taken, {len(source) - len(rows):,} others left out",
    )


def _shared(source: Source, config: DataConfig, split: str) -> Source:
    """What of a source is trained on."""
    if split != "train" or config.share == 1:
        return source
    return Chosen(source, rows_of_share(len(source), config.share, config.share_seed))


def _open_own(own: SourceConfig, config: DataConfig, kept: KeptIds | None) -> Source:
    """A source from outside. Raises ConfigError for what is none, DataError as `open_source`."""
    source = implementation(own)(own)
    if not isinstance(source, Source):
        raise ConfigError(f"{own.implementation} is no diptych.data.Source")
    name = type_name(type(own))
    chosen, kept_of = _listed(source, kept, name, config)
    for remark in (*source.remarks, *kept_of, *probe(name, chosen, "--data.")):
        warnings.warn(remark, DataWarning, stacklevel=3)
    return chosen


def class_names_of(source: Source) -> tuple[str, ...]:
    """The source's class names, in class order. Raises DataError when it has none.

    >>> from diptych.config import DataConfig
    >>> from diptych.data import class_names_of, open_source
    >>> class_names_of(open_source(DataConfig(path="synthetic:10")))[:2]
    ('red circle', 'red square')
    """
    if not source.class_names:
        raise DataError(
            f"no class names are known for {source.describe()}; give a file of names, one a line"
        )
    return source.class_names


@dataclass(frozen=True)
class _Opener:
    """One of the sources that a path joins."""

    config: DataConfig
    captioner: Captioner
    root: str
    peers: Peers | None
    ids: str
    """A field that samples are chosen by; empty: by none."""

    def open(self, path: str) -> Source:
        if path.startswith("synthetic:"):
            return Synthetic(_count(path), self.captioner)
        if path.startswith("pipe:"):
            commands = expand_braces(path.removeprefix("pipe:"))
            return self._stored(*piped(commands, self.config, self.captioner.flags))
        if is_remote(path):
            return self._stored(*remote(path, self.config))
        path = path.removeprefix("file://")
        names = expand_braces(path)
        if all(is_tar(name) and not glob.has_magic(name) for name in names):
            files = [os.path.expanduser(name) for name in names]
            if len(files) > 1 or not os.path.isdir(files[0]):
                return self._shards(files, named=True)  # which asks for each but once
        files = list(map(Path, itertools.chain.from_iterable(map(_matches, names))))
        if len(files) == 1 and files[0].is_dir():
            own, flags = self.captioner, self.captioner.flags
            captioner = captioner_of(self.config, needed=own.needed, flags=flags)
            reader = FolderReader(
                captioner=replace(captioner, alone=own.alone),
                open_shards=self._shards,
                open_table=self._table,
            )
            return reader.open(files[0])
        return self._files(path, files)

    def _files(self, path: str, files: list[Path]) -> Source:
        kinds = {file.suffix.lower() for file in files}
        if any(map(is_tar, files)):
            return self._shards(files)
        if other := next((file for file in files if not file.is_file()), None):
            raise DataError(f"{other} is no regular file")  # to open a pipe is to wait for ever
        if len(kinds) == 1 and (is_table(files[0]) or is_list(files[0])):
            tables = [self._table(file) for file in files]
            return tables[0] if len(tables) == 1 else Joined(tables)
        packed = next((file for file in files if file.suffix.lower() in PACKED), None)
        if packed:
            raise DataError(
                f"{packed} is compressed, and so can't be read at random; unpack it first"
            )
        raise DataError(f"{path} is no kind of source that is known; a source is {_KINDS}")

    @property
    def _cache(self) -> Path:
        return cache_folder(self.config)

    def _shards(self, files: Sequence[Path | str], named: bool = False) -> Shards:
        """Shards; what img2dataset writes beside them is left out, and said."""
        shards = [os.fspath(file) for file in files if is_tar(file)]
        source = self._stored(shards, None, named)
        if len(shards) < len(files):
            other = sorted(
                {Path(file).name for file in files} - {Path(file).name for file in shards}
            )
            said = f"{len(other):,} files that are no .tar are left out ({other[0]}, …)"
            source.remarks = (*source.remarks, said)
        return source

    def _stored(self, paths: Sequence[str], store: Store | None, named: bool = False) -> Shards:
        """Shards of the file system, or of `store`."""
        index = open_index(
            paths,
            self._cache,
            workers=self.config.workers,
            peers=self.peers,
            named=named,
            flags=self.captioner.flags,
            store=store,
        )
        source = Shards(
            index,
            image_keys=alternatives(self.config.image_key),
            captioner=self.captioner,
            max_bad_share=self.config.max_bad_share,
            open_ids=partial(
                open_shard_ids, index, self._cache, self.config.workers, self.captioner.flags
            ),
        )
        remark = store.opened(int(index.rows["bytes"].clip(0).sum())) if store else ""
        source.remarks = (*source.remarks, *filter(None, (remark,)))
        return source

    def _table(self, file: Path, places: Sequence[Path] = ()) -> TableSource:
        return TableSource(
            file,
            image_keys=alternatives(self.config.image_key),
            captioner=self.captioner,
            cache=self._cache,
            root=self.root,
            separator=self.config.separator,
            places=places,
            ids=self.ids,
        )


def _count(path: str) -> int:
    digits = path.removeprefix("synthetic:")
    if not digits.isdecimal() or int(digits) == 0:
        raise ConfigError(f"{path}: synthetic: takes a number of pictures, such as synthetic:1000")
    return int(digits)


def _matches(name: str) -> list[str]:
    """The file of that name, or all that fit it as a `*` pattern."""
    name = str(Path(name).expanduser())
    if os.path.exists(name):
        return [name]
    found = sorted(glob.glob(name))
    if not found:
        raise AbsentError(f"{name} doesn't exist{beside(name)}")
    return found
