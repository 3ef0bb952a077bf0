"""A loader of a webdataset pipeline of one's own, whose epochs are open_clip_train's.

https://github.com/mlfoundations/open_clip, src/open_clip_train/data.py
"""

from math import ceil
from typing import Any

from torch.utils.data import DataLoader

from diptych.compat.open_clip_train.batches import SharedEpoch, batches_of
from diptych.compat.open_clip_train.layout import DataInfo


class WdsLoader(DataLoader[Any]):
    """A `DataLoader` of a pipeline, which gives whole batches, that says how much it gives."""

    def __init__(self, dataset: Any, workers: int, batches: int, samples: int):
        super().__init__(
            dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
        )
        self.num_samples, self.num_batches = samples, batches


def create_wds_loader(
    dataset: Any,
    args: Any,
    is_train: bool,
    num_samples: int,
    shared_epoch: SharedEpoch | None = None,
    floor: bool = False,
) -> DataInfo:
    """Batches of `dataset`, webdataset's `DataPipeline` or what has its `with_epoch`.

    In training an epoch is `num_samples` rounded as `batches_of` does, and `dataset` is told how
    many batches that is for each loader process. Else it gives all it has, and `num_samples` (0:
    nobody counted) is what the loader says.

    >>> from argparse import Namespace
    >>> import webdataset
    >>> from diptych.compat.open_clip_train.data import create_wds_loader
    >>> rows = webdataset.DataPipeline(lambda: iter(range(100)))
    >>> args = Namespace(batch_size=4, world_size=1, workers=0)
    >>> loader = create_wds_loader(rows, args, is_train=True, num_samples=11).dataloader
    >>> loader.num_batches, loader.num_samples, list(loader)
    (3, 12, [0, 1, 2])
    """
    if is_train:
        size = args.batch_size * args.world_size
        batches = batches_of(num_samples, size, args.workers, floor)
        num_samples = batches * size
        dataset = dataset.with_epoch(batches // max(1, args.workers))
    else:
        batches = ceil(num_samples / args.batch_size)
    loader = WdsLoader(dataset, args.workers, batches, num_samples)
    return DataInfo(loader, shared_epoch=shared_epoch)
