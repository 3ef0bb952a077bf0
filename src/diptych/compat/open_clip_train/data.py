"""open_clip_train's loaders of pairs and of ImageNet over Diptych's sources: `get_data` and what it
is made of, for training loops of one's own. They take the transform and tokenizer of the caller.

https://github.com/mlfoundations/open_clip, src/open_clip_train/data.py
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.compat.model_traits import ModelTraits
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.open_clip_train.batches import (
    Batches,
    Pairs,
    SharedEpoch,
    Transform,
    batches_of,
    collate,
    in_order,
)
from diptych.compat.open_clip_train.data_flags import factors_of
from diptych.compat.open_clip_train.datasets import CsvDataset, SyntheticDataset
from diptych.compat.open_clip_train.layout import DataInfo, Layout
from diptych.compat.open_clip_train.naflex_steps import evaluated
from diptych.compat.open_clip_train.pairs import columns
from diptych.compat.open_clip_train.shard_lists import (
    ResampledShards2,
    detshuffle2,
    expand_urls,
    pytorch_worker_seed,
)
from diptych.compat.open_clip_train.sizes import (
    check_epoch,
    get_dataset_size,
    get_wds_sizes,
)
from diptych.compat.open_clip_train.texts import (
    TokenizeText,
    collate_variable_text_dicts,
    columns_of,
    get_text_pad_id,
    resolve_text_layout,
)
from diptych.compat.open_clip_train.wds_loader import create_wds_loader
from diptych.compat.open_clip_train.wds_samples import (
    PICTURES,
    FilterNonEmptyText,
    FilterValidSample,
    JsonCaptionExtractor,
    decode_pil_rgb,
    filter_no_caption_or_no_image,
)
from diptych.compat.open_clip_train.wds_stages import (
    group_by_keys_nothrow,
    log_and_continue,
    tarfile_to_samples_nothrow,
)
from diptych.config import DataConfig
from diptych.data import open_source
from diptych.data.folders import class_folders
from diptych.errors import ConfigError

__all__ = [
    "CsvDataset",
    "DataInfo",
    "FilterNonEmptyText",
    "FilterValidSample",
    "JsonCaptionExtractor",
    "ResampledShards2",
    "SharedEpoch",
    "SyntheticDataset",
    "TokenizeText",
    "collate_variable_text_dicts",
    "count_samples",
    "create_wds_loader",
    "decode_pil_rgb",
    "detshuffle2",
    "expand_urls",
    "filter_no_caption_or_no_image",
    "get_csv_dataset",
    "get_data",
    "get_dataset_fn",
    "get_dataset_size",
    "get_imagenet",
    "get_synthetic_dataset",
    "get_text_pad_id",
    "get_wds_dataset",
    "get_wds_sizes",
    "group_by_keys_nothrow",
    "log_and_continue",
    "pytorch_worker_seed",
    "resolve_text_layout",
    "tarfile_to_samples_nothrow",
]


def get_wds_dataset(
    args: Any,
    preprocess_img: Transform,
    is_train: bool,
    epoch: int = 0,
    floor: bool = False,
    tokenizer: Any = None,
    model_traits: ModelTraits | None = None,
    naflex_data_config: NaFlexDataConfig | None = None,
) -> DataInfo:
    """Pairs of shards: `args.train_data` in an order of the epoch, of `args.train_num_samples`
    (None: all) rounded to whole batches, or `args.val_data` as it lies, of which the loader says
    `args.val_num_samples`, or 0: shards aren't counted. `args.variable_text`, or a
    model's traits, ask for texts that are padded to the longest of a batch; `naflex_data_config`
    for batches of patches, as `naflex_data` makes them, with a transform that is a factory.

    Raises ConfigError and DataError as `open_source`."""
    path, said = _joined(args.train_data if is_train else args.val_data), vars(args)
    resample, factors = is_train and args.dataset_resampled, args.train_data_upsampling_factors
    if is_train and factors and not resample:
        raise ConfigError("--train-data-upsampling-factors needs --dataset-resampled")
    upsample = factors_of(factors, path.count("::") + 1) if is_train and factors else ()
    config = DataConfig(
        path=path,
        image_key=said.get("image_key") or PICTURES,
        caption_key=said.get("json_text_key") or said.get("text_key") or "txt",
        resample=resample,
        upsample=upsample,
    )
    layout = Layout(args, preprocess_img, tokenizer, model_traits, naflex_data_config)
    if not is_train:
        return layout.as_it_lies(open_source(config), said.get("val_num_samples") or 0)
    pairs, size = layout.pairs(open_source(config)), args.world_size
    samples = args.train_num_samples or len(pairs)
    if naflex_data_config is not None:
        check_epoch(args.train_num_samples, naflex_data_config.train_num_image_tokens)
        return layout.in_patches(pairs, samples, size, epoch, resample)
    batches = batches_of(samples, args.batch_size * size, args.workers, floor)
    return layout.in_training(pairs, batches, size, epoch, resample)


def get_csv_dataset(
    args: Any,
    preprocess_fn: Transform,
    is_train: bool,
    epoch: int = 0,
    tokenizer: Any = None,
    model_traits: ModelTraits | None = None,
    naflex_data_config: NaFlexDataConfig | None = None,
) -> DataInfo:
    """Pairs of a table, `args.csv_img_key` and `args.csv_caption_key` its columns: in training an
    epoch is all whole batches. Texts as `get_wds_dataset`'s."""
    config = DataConfig(
        path=args.train_data if is_train else args.val_data,
        separator=args.csv_separator.replace("\t", "\\t"),
        image_key=args.csv_img_key,
        caption_key=args.csv_caption_key,
    )
    layout = Layout(args, preprocess_fn, tokenizer, model_traits, naflex_data_config, True)
    if not is_train:
        return layout.as_it_lies(open_source(config))
    pairs = layout.pairs(open_source(config))
    size = args.world_size if args.distributed else 1
    if naflex_data_config is not None:
        return layout.in_patches(pairs, len(pairs), size, epoch, False)
    batches = len(pairs) // (args.batch_size * size)
    return layout.in_training(pairs, batches, size, epoch, False)


def get_synthetic_dataset(
    args: Any,
    preprocess_fn: Transform,
    is_train: bool,
    epoch: int = 0,
    tokenizer: Any = None,
    model_traits: ModelTraits | None = None,
) -> DataInfo:
    """`SyntheticDataset`, of `args.train_num_samples`: in training an epoch is all whole batches.
    Texts as `get_wds_dataset`'s."""
    _, variable = resolve_text_layout(args, model_traits)
    _, join = columns_of(args, tokenizer, model_traits)
    samples = args.train_num_samples
    pairs = SyntheticDataset(
        preprocess_fn, dataset_size=samples, tokenizer=tokenizer, variable_text=variable
    )
    size = args.world_size if args.distributed and is_train else 1
    own = samples // (args.batch_size * size) * args.batch_size if is_train else samples
    loader = Batches(
        pairs, args.workers, own * size, join, batch_size=args.batch_size, sampler=range(own)
    )
    return DataInfo(loader, shared_epoch=SharedEpoch(epoch))


def get_imagenet(
    args: Any,
    preprocess_fns: Sequence[Transform],
    split: str,
    naflex_data_config: NaFlexDataConfig | None = None,
) -> DataInfo:
    """Pictures and classes of `args.imagenet_val` (`split` "val") or `args.imagenet_v2` ("v2"), a
    folder for each class: classes are counted in the order of their names, or folders that are
    numbers say them. `naflex_data_config`: see `get_wds_dataset`. Raises ConfigError for another
    split."""
    if split not in ("val", "v2"):
        raise ConfigError(
            f"split {split!r} of ImageNet (--imagenet-{split}) isn't read here: val or v2"
        )
    path = args.imagenet_val if split == "val" else args.imagenet_v2
    source = open_source(DataConfig(path=path), captions=False)
    names = [folder.name for folder in class_folders(Path(path))]
    numbered = all(name.isdecimal() for name in names)
    classes = [int(name) for name in names] if numbered else list(range(len(names)))
    transform, join = preprocess_fns[1], collate
    if naflex_data_config is not None:
        transform, join = evaluated(transform, naflex_data_config, join)
    pairs = Pairs(source, transform, partial(_class, classes), replaced=False)
    return DataInfo(in_order(pairs, batch_size=args.batch_size, workers=args.workers, join=join))


def get_dataset_fn(data_path: str, dataset_type: str) -> Callable[..., DataInfo]:
    """The function for this type of data; `auto`: by the path's ending. Raises ConfigError."""
    known = {
        "webdataset": get_wds_dataset,
        "csv": get_csv_dataset,
        "synthetic": get_synthetic_dataset,
    }
    by_ending = {"csv": "csv", "tsv": "csv", "tar": "webdataset"}
    if dataset_type == "auto":
        dataset_type = by_ending.get(data_path.rpartition(".")[2], dataset_type)
    if dataset_type not in known:
        raise ConfigError(
            f"{data_path}: the type {dataset_type!r} doesn't say what it is; say webdataset, csv "
            "or synthetic"
        )
    return known[dataset_type]


def get_data(
    args: Any,
    preprocess_fns: Sequence[Transform],
    epoch: int = 0,
    tokenizer: Any = None,
    model_traits: ModelTraits | None = None,
    naflex_data_config: NaFlexDataConfig | None = None,
) -> dict[str, DataInfo]:
    """What `args` names, of `train`, `val`, `imagenet-val` and `imagenet-v2`. `preprocess_fns`: in
    training, and else; `model_traits`: of the model that is trained.

    >>> from diptych import compat
    >>> from diptych.compat.open_clip_train import data, params
    >>> args = params.parse_args(["--dataset-type", "synthetic", "--train-num-samples", "8",
    ...                           "--batch-size", "4", "--workers", "0"])
    >>> _, train, val = compat.create_model_and_transforms("tiny", load_weights=False)
    >>> found = data.get_data(args, (train, val), tokenizer=compat.get_tokenizer("tiny"))
    >>> [images.shape for images, texts in found["train"].dataloader]
    [torch.Size([4, 3, 48, 48]), torch.Size([4, 3, 48, 48])]
    """
    train, val = preprocess_fns
    traits, found = dict[str, Any](model_traits=model_traits), dict[str, DataInfo]()
    if naflex_data_config is not None:
        traits["naflex_data_config"] = naflex_data_config
    if args.train_data or args.dataset_type == "synthetic":
        make = get_dataset_fn(args.train_data or "", args.dataset_type)
        found["train"] = make(args, train, True, epoch, tokenizer=tokenizer, **traits)
    if args.val_data:
        make = get_dataset_fn(args.val_data, args.dataset_type)
        found["val"] = make(args, val, False, tokenizer=tokenizer, **traits)
    if args.imagenet_val is not None:
        found["imagenet-val"] = get_imagenet(args, preprocess_fns, "val", naflex_data_config)
    if args.imagenet_v2 is not None:
        found["imagenet-v2"] = get_imagenet(args, preprocess_fns, "v2", naflex_data_config)
    return found


def count_samples(dataloader: Iterable[Any]) -> tuple[int, int]:
    """How many pairs a loader gives, and how many batches, by taking them all."""
    sizes = [len(columns(batch)[1]) for batch in dataloader]
    return sum(sizes), len(sizes)


def __getattr__(name: str) -> Any:
    """`wds`, under which pipelines of one's own find webdataset; only they need it."""
    if name == "wds":
        return importlib.import_module("webdataset")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _joined(shards: str | Sequence[str]) -> str:
    return shards if isinstance(shards, str) else "::".join(shards)


def _class(classes: Sequence[int], sample: Sample) -> int:
    assert sample.label is not None
    return classes[sample.label]
