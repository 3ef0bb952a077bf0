"""What a few samples of a source say before all are read: that none can be used, or that a model
would learn nothing from them."""

import contextlib
import os
from typing import cast

from diptych.config import DataConfig
from diptych.data.bad import too_many
from diptych.data.source import Source
from diptych.errors import DataError

_PROBES = 8
_SAME = 64
"""Samples that are compared before all are said to have one caption."""


def refuse_bad(path: str, source: Source, share: float, flags: str) -> None:
    """Lines of tables that are no rows count as bad samples. Raises DataError for too many."""
    lines = [bad for bad in source.bad_samples if bad.key]
    if lines and too_many(len(lines), len(source) + len(lines), share):
        raise DataError(
            f"{len(lines):,} of {len(source) + len(lines):,} rows of {path} can't be read, more "
            f"than {flags}max-bad-share {share:g}; the first: {lines[0].key}: {lines[0].reason}"
        )


def probe(path: str, source: Source, flags: str) -> tuple[str, ...]:
    """Try a few samples. Raises DataError where none can be used; remarks where all say the
    same."""
    if not len(source):
        why = [f": {bad.file} is {bad.reason}" for bad in source.bad_samples[:1]]
        raise DataError(f"{path} holds no samples{''.join(why)}")
    tried, captions, reasons = spread(len(source), _PROBES), set[tuple[str, ...]](), list[str]()
    for index in tried:
        try:
            captions.add(_read(source, index, flags))
        except (DataError, OSError) as error:
            reasons.append(f"{source.where(index)[1]}: {error}")
    if len(reasons) == len(tried):
        raise DataError(
            f"none of {len(tried)} samples tried (of {len(source):,}) in {path} can be used; "
            f"{reasons[0]}"
        )
    if len(captions) > 1 or len(source) < 2 or not any(captions):
        return ()
    return _said_of_constant(path, source)


def _read(source: Source, index: int, flags: str) -> tuple[str, ...]:
    """A sample's captions. Raises DataError where its picture isn't there."""
    sample = source[index]
    if isinstance(sample.image, str) and not os.path.exists(sample.image):
        hint = f"; the folder that pictures' paths start from is {flags}image-root"
        raise DataError(f"{sample.image} doesn't exist{hint if sample.meta is not None else ''}")
    return sample.captions


def _said_of_constant(path: str, source: Source) -> tuple[str, ...]:
    """That all samples looked at have one caption, where it is so."""
    found = list[tuple[str, ...]]()
    for index in spread(len(source), _SAME):
        with contextlib.suppress(DataError, OSError):
            found.append(source[index].captions)
    if len(found) < 2 or len(set(found)) > 1:
        return ()
    return (
        f"all samples of {path} that were looked at have the same caption, {found[0][0]!r}: "
        "a model learns nothing from them",
    )


def said_of_neighbours(
    path: str, source: Source, config: DataConfig, flags: str
) -> tuple[str, ...]:
    """That runs of consecutive samples are of one class each, where it is so."""
    pairs, looked = list[tuple[int, int]](), config.consecutive > 1 and len(source) > 1
    for index in spread(len(source) - 1, _PROBES) if looked else ():
        with contextlib.suppress(DataError, OSError):
            labels = source[index].label, source[index + 1].label
            if None not in labels:
                pairs.append(cast(tuple[int, int], labels))
    alike = len(pairs) > 1 and all(first == last for first, last in pairs)
    if not alike or len(set(pairs)) == 1:
        return ()
    return (
        f"samples of {path} that lie side by side are of one class: with {flags}consecutive "
        f"{config.consecutive} they come into a batch together; 1 shuffles them one by one",
    )


def spread(count: int, most: int) -> list[int]:
    """Numbers spread evenly over `count`, the first and the last among them: files often go bad at
    their end."""
    return sorted({place * (count - 1) // (most - 1) for place in range(most)})
