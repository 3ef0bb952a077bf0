"""Stages of webdataset's pipelines that go on behind what can't be read, for pipelines of one's
own; `data`'s loaders read shards in another way.

https://github.com/mlfoundations/open_clip, src/open_clip_train/data.py
"""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

_SPLIT = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)")
Keys = Callable[[str], tuple[str | None, str | None]]


def log_and_continue(exn: BaseException) -> bool:
    """A handler of webdataset's: warn of an error, and go on."""
    logging.warning("Handling webdataset error (%r). Ignoring.", exn)
    return True


def base_plus_ext(path: str) -> tuple[str | None, str | None]:
    """A member's key and the ending behind it, which begins at the first dot of its name; None and
    None for another name."""
    found = _SPLIT.fullmatch(path)
    return (found[1], found[2]) if found else (None, None)


def group_by_keys_nothrow(
    data: Iterable[Mapping[str, Any]],
    keys: Keys = base_plus_ext,
    lcase: bool = True,
    suffixes: Collection[str] | None = None,
    handler: Any = None,
) -> Iterator[dict[str, Any]]:
    """Samples of members that follow each other: a sample ends where the key changes, or where it
    has this ending already, as in joined shards whose keys begin anew.

    >>> from diptych.compat.open_clip_train.data import group_by_keys_nothrow
    >>> members = [{"fname": name, "data": 0, "__url__": "a.tar"} for name in ("1.JPG", "1.txt")]
    >>> list(group_by_keys_nothrow(members))
    [{'__key__': '1', '__url__': 'a.tar', 'jpg': 0, 'txt': 0}]
    """
    sample = dict[str, Any]()
    for member in data:
        key, ending = keys(member["fname"])
        if key is None or ending is None:
            continue
        ending = ending.lower() if lcase else ending
        if sample.get("__key__") != key or ending in sample:
            if sample:
                yield sample
            sample = {"__key__": key, "__url__": member["__url__"]}
        if suffixes is None or ending in suffixes:
            sample[ending] = member["data"]
    if sample:
        yield sample


def tarfile_to_samples_nothrow(
    src: Iterable[dict[str, Any]], handler: Any = log_and_continue
) -> Iterator[dict[str, Any]]:
    """Samples of the shards at each `url`, by webdataset's readers. It must be installed."""
    from webdataset.tariterators import tar_file_expander, url_opener

    return group_by_keys_nothrow(tar_file_expander(url_opener(src, handler=handler), handler))
