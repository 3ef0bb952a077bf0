"""From `data.path` to a source: which kind it is, and what is wrong when it is none."""

import glob
import itertools
from collections.abc import Sequence
from pathlib import Path

from braceexpand import braceexpand

from diptych.components import implementation, type_name
from diptych.config import DataConfig, SourceConfig
from diptych.data.folders import class_folders, open_class_folders
from diptych.data.shards import Shards
from diptych.data.source import Captioner, Joined, Source, alternatives, captioner_of
from diptych.data.spool import cache_folder, spool_command
from diptych.data.synthetic import Synthetic
from diptych.data.tables import TABLE_ENDINGS, TableSource
from diptych.errors import ConfigError, DataError

_PROBES = 8
_KINDS = (
    "shards (.tar), a table (.csv, .tsv, .parquet, .jsonl, .json), "
    "a folder with a sub-folder per class, pipe:COMMAND or synthetic:COUNT"
)


def open_source(
    config: DataConfig, *, captions: bool = True, class_names: Sequence[str] = ()
) -> Source:
    """The source, or mixture of sources, that `config.path` names.

    With `captions=False` pictures without one are fine (evaluation by label, embedding).
    `class_names` are those of the labels in shards and tables, where `config` names no file of
    them; class folders have their own. A few
    samples are tried at once: a source of which none can be used raises DataError here, with the
    reason, and not an hour later.

    >>> from diptych.config import DataConfig
    >>> from diptych.data import open_source
    >>> source = open_source(DataConfig(path="synthetic:1000"))
    >>> len(source), source[7].captions
    (1000, ('a photo of a white ring.',))
    """
    if config.source is not None:
        return _open_own(config.source)
    if not config.path:
        raise ConfigError(f"data.path is empty; give it {_KINDS}")
    captioner = captioner_of(config, needed=captions, class_names=tuple(class_names))
    paths, roots = config.path.split("::"), config.image_root.split("::")
    roots = roots if len(roots) == len(paths) else roots * len(paths)
    parts = [
        _open_one(path.strip(), root.strip(), config, captioner)
        for path, root in zip(paths, roots, strict=True)
    ]
    for path, part in zip(paths, parts, strict=True):
        _probe(path, part)
    return parts[0] if len(parts) == 1 else Joined(parts, config.weights)


def _open_own(config: SourceConfig) -> Source:
    """A source from outside. Raises ConfigError for what is none, DataError as `open_source`."""
    source = implementation(config)(config)
    if not isinstance(source, Source):
        raise ConfigError(f"{config.implementation} is no diptych.data.Source")
    _probe(type_name(type(config)), source)
    return source


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


def _probe(path: str, source: Source) -> None:
    if not len(source):
        why = [f": {bad.file} is {bad.reason}" for bad in source.bad_samples[:1]]
        raise DataError(f"{path} holds no samples{''.join(why)}")
    # Spread evenly, the first and the last among them: files often go bad at their end.
    last = len(source) - 1
    tried = sorted({place * last // (_PROBES - 1) for place in range(_PROBES)})
    reasons = list[str]()
    for index in tried:
        try:
            source[index]
        except (DataError, OSError) as error:
            reasons.append(f"{source.where(index)[1]}: {error}")
    if len(reasons) == len(tried):
        raise DataError(
            f"none of {len(tried)} samples tried (of {len(source):,}) in {path} can be used; "
            f"{reasons[0]}"
        )


def _open_one(path: str, root: str, config: DataConfig, captioner: Captioner) -> Source:
    if path.startswith("synthetic:"):
        return Synthetic(_count(path), captioner)
    cache = cache_folder(config)
    image_keys = alternatives(config.image_key)
    if path.startswith("pipe:"):
        spooled = [spool_command(command, cache) for command in _braces(path.removeprefix("pipe:"))]
        return Shards(spooled, image_keys=image_keys, captioner=captioner, cache=cache)
    if "://" in path:
        raise DataError(
            f"{path} isn't a local file; read it through a command, such as pipe:curl -sSf {path}"
        )
    files = list(map(Path, itertools.chain.from_iterable(map(_matches, _braces(path)))))
    if len(files) == 1 and files[0].is_dir():
        folder = files[0]
        files = sorted(folder.glob("metadata.*")) or sorted(folder.glob("*.tar"))
        if not files and class_folders(folder):
            return open_class_folders(folder, captioner_of(config, needed=captioner.needed))
    kinds = {file.suffix for file in files}
    if kinds == {".tar"}:
        return Shards(files, image_keys=image_keys, captioner=captioner, cache=cache)
    if len(kinds) == 1 and kinds < set(TABLE_ENDINGS):
        tables = [
            TableSource(file, image_keys=image_keys, captioner=captioner, cache=cache, root=root)
            for file in files
        ]
        return tables[0] if len(tables) == 1 else Joined(tables)
    packed = next((file for file in files if ".tar." in file.name or file.suffix == ".tgz"), None)
    if packed:
        raise DataError(
            f"{packed} is compressed, and so can't be read at random; "
            "unpack it to a plain .tar first"
        )
    raise DataError(f"{path} is no kind of source that is known; data.path takes {_KINDS}")


def _count(path: str) -> int:
    digits = path.removeprefix("synthetic:")
    if not digits.isdecimal() or int(digits) == 0:
        raise ConfigError(f"{path}: synthetic: takes a number of pictures, such as synthetic:1000")
    return int(digits)


def _braces(pattern: str) -> list[str]:
    try:
        return list(braceexpand(pattern))
    except ValueError:
        raise ConfigError(f"data.path {pattern} has unbalanced braces") from None


def _matches(name: str) -> list[str]:
    """The file of that name, or all that fit it as a `*` pattern."""
    name = str(Path(name).expanduser())
    if Path(name).exists():
        return [name]
    found = sorted(glob.glob(name))
    if not found:
        raise DataError(f"{name} doesn't exist (data.path)")
    return found
