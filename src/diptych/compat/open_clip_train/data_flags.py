"""Which data a command line of open_clip_train means, and how long an epoch of it is."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from diptych.compat.loading.places import is_place
from diptych.compat.open_clip_train.batches import batches_of
from diptych.compat.open_clip_train.data_manifest import (
    apply_manifest_to_args,
    load_manifest,
    looks_like_manifest,
)
from diptych.compat.open_clip_train.model import weights_of
from diptych.compat.open_clip_train.options import Options
from diptych.compat.open_clip_train.wds_samples import PICTURES
from diptych.config import DataConfig
from diptych.errors import ConfigError

_TABLES, _SHARDS = ("csv", "tsv"), ("tar",)


def data_of(options: Options, base: DataConfig, processes: int) -> tuple[DataConfig, int]:
    """The data, and how many steps open_clip takes an epoch for; 0: it is all samples once."""
    options = _with_manifest(options)
    kind, path = _kind(options)
    data = replace(base, path=path, workers=options.workers, resample=options.dataset_resampled)
    if factors := options.train_data_upsampling_factors:
        if not options.dataset_resampled:
            raise ConfigError("--train-data-upsampling-factors needs --dataset-resampled")
        data = replace(data, upsample=factors_of(factors, len(path.split("::"))))
    if options.aug_cfg:
        data = replace(data, augment=replace(data.augment, **_crop(options.aug_cfg)))
    if kind == "csv":
        separator = options.csv_separator.replace("\t", "\\t")
        keys = {"image_key": options.csv_img_key, "caption_key": options.csv_caption_key}
        return replace(data, separator=separator, **keys), 0
    if kind == "synthetic":
        return data, 0
    captions = options.json_text_key or options.text_key or "txt"
    keys = {"image_key": options.image_key or PICTURES, "caption_key": captions}
    return replace(data, **keys), _steps_of_shards(options, processes)


def _with_manifest(options: Options) -> Options:
    """What a manifest as --train-data says, in place of it."""
    if not looks_like_manifest(path := options.train_data):
        return options
    assert path is not None
    args = Namespace(**vars(options))
    apply_manifest_to_args(args, load_manifest(path))
    factors = args.train_data_upsampling_factors
    return replace(
        options,
        train_data="::".join(args.train_data),
        train_num_samples=args.train_num_samples,
        train_data_upsampling_factors=factors and "::".join(map(str, factors)),
    )


def _kind(options: Options) -> tuple[str, str]:
    """webdataset, csv or synthetic; and the path here."""
    kind, path = options.dataset_type, options.train_data or ""
    if kind == "synthetic":
        if not options.train_num_samples:
            raise ConfigError("--dataset-type synthetic needs --train-num-samples")
        return kind, f"synthetic:{options.train_num_samples}"
    if not path:
        raise ConfigError(_no_data(options))
    if kind != "auto":
        return kind, path
    ending = path.rpartition(".")[2]
    if ending in (*_TABLES, *_SHARDS):
        return "csv" if ending in _TABLES else "webdataset", path
    raise ConfigError(
        f"--train-data {path}: the ending .{ending} doesn't say what it is; say --dataset-type "
        "webdataset or csv"
    )


def _no_data(options: Options) -> str:
    """What to do in place of a command line that only evaluates."""
    # open_clip evaluates a checkpoint by either flag.
    held = options.pretrained or ("" if options.resume in (None, "latest") else options.resume)
    model, how = weights_of(options.model, held) if held else options.model, ""
    if held and is_place(held):
        how = (
            f", or `diptych evaluate … --config {options.model}` if it doesn't say how it is built"
        )
    if options.imagenet_val or options.imagenet_v2:
        command = f"`diptych evaluate {model} --tasks imagenet1k --data-root FOLDER`"
    elif options.val_data:
        command = f"`diptych evaluate {model} --data {options.val_data}`"
    else:
        command = "`diptych evaluate --help`"
    return f"there is no --train-data; to evaluate alone: {command}{how}"


def factors_of(text: str | Sequence[float], parts: int) -> tuple[float, ...]:
    """A factor for each of so many parts of the data. Raises ConfigError for others."""
    try:
        factors = tuple(map(float, text.split("::") if isinstance(text, str) else text))
    except ValueError as error:
        raise ConfigError(
            f"--train-data-upsampling-factors {text} must be numbers joined by ::"
        ) from error
    if len(factors) != parts:
        raise ConfigError(
            f"--train-data-upsampling-factors {text} has {len(factors)} numbers for the {parts} "
            "::-joined parts of --train-data"
        )
    return factors


def _crop(asked: dict[str, Any]) -> dict[str, Any]:
    """Of open_clip's `AugmentationCfg`; what isn't set there changes nothing."""
    crop = dict[str, tuple[Any, ...]]()
    for name, value in asked.items():
        if name in ("scale", "ratio") and value:
            if not isinstance(value, tuple | list):
                raise ConfigError(f"--aug-cfg {name}={value} must be two numbers: {name}=(0.9,1.0)")
            crop[name] = tuple(value)
        if name not in ("scale", "ratio") and value:
            raise ConfigError(
                f"--aug-cfg {name}={value} has no counterpart: of plain crops scale and ratio are "
                "set"
            )
    return crop


def _steps_of_shards(options: Options, processes: int) -> int:
    """As open_clip counts. 0: all samples that the shards hold, which are counted when they are
    opened."""
    if not options.train_num_samples:
        return 0
    whole = options.batch_size * processes
    batches = batches_of(options.train_num_samples, whole, options.workers)
    steps = batches // options.accum_freq
    if not steps:
        raise ConfigError(
            f"--train-num-samples {options.train_num_samples} are no whole step of --accum-freq "
            f"{options.accum_freq} batches"
        )
    return steps
