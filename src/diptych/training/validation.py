"""The objective's loss on pairs that aren't trained on."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from diptych.batch import Batch, HiddenPatches, TextLengths
from diptych.config import DataConfig
from diptych.data import Source
from diptych.data.block_mask import AlternatingMask
from diptych.data.views import SampleViews, ViewTransform
from diptych.distributed import Peers, on_main, together
from diptych.errors import DataError
from diptych.inputs import Preprocess, Tokenizer, TrainCrop
from diptych.models.evaluating import evaluating
from diptych.objectives import Features, Objective
from diptych.threads import ahead

_THREADS, _AHEAD, _CHUNK = 4, 64, 64
"""Threads that decode, pairs that they are ahead, and pairs that a tower sees at a time."""


@dataclass(frozen=True)
class _Whole(TrainCrop):
    """The plain view as in evaluation: nothing is drawn."""

    preprocess: Preprocess | None = None

    def __call__(
        self, pixels: UInt8[Tensor, "3 height width"], rng: np.random.Generator
    ) -> UInt8[Tensor, "3 _ _"]:
        assert self.preprocess is not None
        return self.preprocess.pixels(pixels)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The mean loss over batches of `batch_size` pairs, in the source's order; a last, smaller one
    counts by its pairs.

    A contrast depends on the batch: losses of other batch sizes can't be compared. Pictures are
    shown as in evaluation, of several captions the first counts; what else the objective wants to
    see (strong crops, masked words) is drawn alike every time, and of patches every other one is
    hidden. Pairs that can't be read are left
    out. The number of processes doesn't change it.
    """

    data: DataConfig
    batch_size: int
    tokenizer: Tokenizer
    preprocess: Preprocess
    peers: Peers

    def loss(self, objective: Objective, source: Source, limit: int = 0) -> float:
        """Of the first `limit` pairs (0: all). Every process calls it. Raises DataError if none of
        them can be read."""
        count = min(limit, len(source)) if limit else len(source)
        total, used, transform = 0.0, 0, self._transform(objective)
        # Without a contrast a batch's size doesn't matter, and a small one is little to gather.
        size = self.batch_size if objective.contrasts else _CHUNK * self.peers.size
        with evaluating(objective):
            for start in range(0, count, size):
                rows = range(start, min(start + size, count))
                loss, pairs = self._of_batch(objective, source, rows, transform)
                total, used = total + loss * pairs, used + pairs
        if not used:
            raise DataError(f"none of the {count} pairs of {self.data.path} can be read")
        return total / used

    def _transform(self, objective: Objective) -> ViewTransform:
        # Captions of one length everywhere, so that tokens of all processes fit together.
        views = replace(objective.views, whole_length=True)
        config = replace(self.data, strong_on="workers")
        transform = ViewTransform.from_config(views, config, self.preprocess, self.tokenizer)
        plain = _Whole(config.augment, self.preprocess.size, preprocess=self.preprocess)
        hide = None if views.hidden is None else AlternatingMask(views.hidden)
        return replace(transform, plain=plain, hide=hide)

    def _of_batch(
        self, objective: Objective, source: Source, rows: range, transform: ViewTransform
    ) -> tuple[float, int]:
        """The loss, and of how many pairs. Processes share the towers' work; the contrast is
        computed once."""
        # Blocks, not every n-th: the pairs stay in order, and sums over them are the same.
        own = np.array_split(np.array(rows), self.peers.size)[self.peers.rank].tolist()
        local = together(self.peers, lambda: self._features(objective, source, own, transform))
        parts = [part for part in self.peers.all_gather_objects(local) if part]

        def contrast() -> tuple[float, int]:
            if not parts:
                return 0.0, 0
            joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            device = self.peers.device
            features = {name: tensor.to(device) for name, tensor in joined.items()}
            pairs = len(next(iter(joined.values())))
            return float(objective.loss(features, Peers(device=device)).total), pairs

        return on_main(self.peers, contrast)

    def _features(
        self,
        objective: Objective,
        source: Source,
        rows: Iterable[int],
        transform: ViewTransform,
    ) -> Features:
        """On the CPU; empty where no pair can be read."""

        def read(row: int) -> SampleViews | None:
            try:
                sample = source[row]
                first = replace(sample, captions=sample.captions[:1])
                return transform(first, np.random.default_rng(row))
            except (DataError, OSError):
                return None

        found = ahead(
            read, rows, _THREADS, depth=_AHEAD, name=lambda row: ", ".join(source.where(row))
        )
        samples = [views for views in found if views is not None]
        chunks = list[Features]()
        for start in range(0, len(samples), _CHUNK):
            batch = self._batch(transform, samples[start : start + _CHUNK])
            found = objective.features(batch) | objective.targets(batch)
            chunks.append({name: tensor.cpu() for name, tensor in found.items()})
        if not chunks:
            return {}
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _batch(self, transform: ViewTransform, samples: list[SampleViews]) -> Batch:
        views, device = transform.collate(samples), self.peers.device
        return Batch(
            images=tuple(image.to(device) for image in views.images),
            texts=tuple(text.to(device) for text in views.texts),
            index=torch.arange(len(samples), device=device),
            mlm_labels=views.mlm_labels,
            lengths=tuple(TextLengths.of(view.tolist()).to(device) for view in views.lengths),
            normalise=self.preprocess.normalise,
            hidden=None if views.hidden is None else HiddenPatches.of(views.hidden).to(device),
        ).ready()
