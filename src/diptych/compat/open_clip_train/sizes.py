"""How many samples shards hold, as open_clip_train finds it out.

https://github.com/mlfoundations/open_clip, src/open_clip_train/data.py
"""

import os
from collections.abc import Sequence
from typing import Any

from diptych.bounded import parse_json, read_whole
from diptych.compat.open_clip_train.shard_lists import expand_urls
from diptych.config.serialize import read_as
from diptych.errors import ConfigError, DataError

_SIZES, _LENGTH = "sizes.json", "__len__"
_MOST = 100_000_000
"""Bytes of these files: the largest published data set has 1.3 million shards."""


def get_dataset_size(shards: str | Sequence[str]) -> tuple[int | None, int]:
    """How many samples the files beside the shards say there are (`sizes.json`, `__len__`; None:
    there is neither), and how many shards. Raises DataError for files that don't say it."""
    names, _ = expand_urls(shards)
    folder = os.path.dirname(names[0])
    sizes, length = os.path.join(folder, _SIZES), os.path.join(folder, _LENGTH)
    try:
        if os.path.exists(sizes):
            said = read_as(dict[str, int], parse_json(read_whole(sizes, _MOST)), sizes)
            return sum(said[os.path.basename(name)] for name in names), len(names)
        if os.path.exists(length):
            return int(read_whole(length, _MOST)), len(names)
    except KeyError as error:
        raise DataError(f"{sizes} doesn't say how many samples {error.args[0]} has") from None
    except ValueError as error:
        raise DataError(f"the number of samples beside {names[0]} can't be read: {error}") from None
    return None, len(names)


def get_wds_sizes(
    args: Any, input_shards: str | Sequence[str], is_train: bool, num_tokens: int | None = None
) -> tuple[int | None, int | None]:
    """(samples, shards) of an epoch, None for what nobody had to count: `args.train_num_samples`,
    or what the files beside the shards say; of what is measured `args.val_num_samples`, or 0: all.
    With `num_tokens` an epoch is as many patches as these. Raises ConfigError where both are said,
    and where nothing says it.

    >>> from argparse import Namespace
    >>> from diptych.compat.open_clip_train.data import get_wds_sizes
    >>> get_wds_sizes(Namespace(train_num_samples=12), "absent.tar", is_train=True)
    (12, None)
    """
    if not is_train:
        return args.val_num_samples or 0, None
    if num_tokens is not None:
        check_epoch(args.train_num_samples, num_tokens)
        return None, None
    if args.train_num_samples:
        return args.train_num_samples, None
    samples, shards = get_dataset_size(input_shards)
    if not samples:
        raise ConfigError(
            "nothing says how many samples the shards hold: say --train-num-samples, or lay a "
            f"{_SIZES} beside them"
        )
    return samples, shards


def check_epoch(samples: int | None, tokens: int | None) -> None:
    """Raises ConfigError where an epoch's size is said twice."""
    if samples and tokens:
        raise ConfigError(
            "Specify only one of --train-num-samples or --naflex-num-train-image-tokens: both say "
            "how long an epoch is"
        )
