"""The loaders that open_clip's main branch keeps from before: the same as `data`'s, which take the
layout of texts from the arguments alone.

https://github.com/mlfoundations/open_clip, src/open_clip_train/legacy_data.py
"""

from collections.abc import Sequence
from typing import Any

from diptych.compat.open_clip_train.batches import Transform
from diptych.compat.open_clip_train.data import DataInfo, get_data, get_wds_dataset
from diptych.errors import ConfigError

_ABSENT = {"use_naflex": "NaFlex", "length_bucketing": "length-bucketing"}


def get_wds_dataset_legacy(
    args: Any,
    preprocess_img: Transform,
    is_train: bool,
    epoch: int = 0,
    floor: bool = False,
    tokenizer: Any = None,
) -> DataInfo:
    """`data.get_wds_dataset`, by arguments alone."""
    return get_wds_dataset(args, preprocess_img, is_train, epoch, floor, tokenizer)


def get_data_legacy(
    args: Any, preprocess_fns: Sequence[Transform], epoch: int = 0, tokenizer: Any = None
) -> dict[str, DataInfo]:
    """`data.get_data`, by arguments alone. Raises ConfigError where they ask for what these loaders
    never had."""
    for name, said in _ABSENT.items():
        if vars(args).get(name):
            raise ConfigError(f"the legacy loaders have no {said}; take open_clip_train.data")
    return get_data(args, preprocess_fns, epoch, tokenizer)
