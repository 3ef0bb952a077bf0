"""What every scorer is given, and what it gives; and what all classifications share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.datasets import Dataset
from diptych.distributed import Peers, on_main
from diptych.encoder import Cache, FeatureExtractor, ImageFeatures, Texts, class_vectors, prompts
from diptych.encoder.classes import prompt_vectors
from diptych.errors import ConfigError
from diptych.evaluation.intervals import (
    Interval,
    bootstrap_mean,
    mean_of_shares,
    wilson,
)
from diptych.evaluation.linear import LinearProbe
from diptych.evaluation.per_sample import PerSample
from diptych.evaluation.predictions import Predictions
from diptych.evaluation.zero_shot import ZeroShotResult

T = TypeVar("T")
Intervals = dict[str, list[float]]
"""Metric -> [low, high]."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The part of a result that scoring gives; the fields are `Result`'s."""

    metrics: dict[str, float]
    protocol: dict[str, Any]
    class_names: tuple[str, ...] = ()
    per_class: tuple[float | None, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    intervals: Intervals = field(default_factory=dict)
    """Also of figures that the dataset's task doesn't give; those are left out of a result."""
    per_sample: dict[str, PerSample] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """What a reader of the numbers should know."""
    predictions: Predictions | None = None
    """Of zero-shot classification by whole vectors."""

    @property
    def reported_intervals(self) -> Intervals:
        """Those of the figures that there are."""
        return {name: found for name, found in self.intervals.items() if name in self.metrics}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a scorer works on: a dataset whose pictures are vectors by now. All processes call the
    scorer alike, and its methods in the same order."""

    dataset: Dataset
    """The test split."""
    splits: Mapping[str, ImageFeatures]
    """`test`, and `train` and `val` where there is training."""
    extractor: FeatureExtractor
    cache: Cache
    peers: Peers
    progress: bool = False
    probes: dict[str, LinearProbe] = field(default_factory=dict, repr=False)
    """Linear classifiers that were trained already, by all that they depend on."""
    shots: tuple[int, ...] = ()
    """See `Engine`."""
    probe_key: str = ""
    """What the classifier of this task's training splits depends on."""

    @property
    def pictures(self) -> ImageFeatures:
        """Of the test split."""
        return self.splits["test"]

    @property
    def keys(self) -> list[str]:
        """What each picture is called."""
        return [sample.key for sample in self.pictures.samples]

    @property
    def scale(self) -> float:
        """What the model multiplies cosines by."""
        return float(self.extractor.encoder.model.logit_scale.detach().float().cpu().exp())

    @property
    def texts(self) -> list[str]:
        """What pictures are compared with: the prompts of the classes, or the captions."""
        if self.dataset.class_prompts:
            return list(chain.from_iterable(self.dataset.class_prompts))
        if self.dataset.class_names:
            return prompts(self.dataset.class_names, self.dataset.templates)
        captions = (sample.captions for sample in self.pictures.samples)
        return list(chain.from_iterable(captions))

    def class_vectors(self) -> Float[Tensor, "classes width"]:
        """A unit vector for each class; every process encodes its share of the prompts."""
        dataset = self.dataset
        if dataset.class_prompts:
            return prompt_vectors(self._texts(), dataset.class_prompts)
        return class_vectors(self._texts(), dataset.class_names, dataset.templates)

    def caption_vectors(self) -> Float[Tensor, "captions width"]:
        """A unit vector for each caption of each picture, in order."""
        return self._texts()(self.texts)

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work` gives on the first process, for all of them."""
        return on_main(self.peers, work)

    def _texts(self) -> Texts:
        return Texts(self.extractor.encoder, self.cache, self.peers, progress=self.progress)


def labels_of(pictures: ImageFeatures, dataset: Dataset | None = None) -> Int[Tensor, " pictures"]:
    """The class of each picture. Raises ConfigError where there isn't one class a picture, or a
    class has no name in `dataset`."""
    labels = [sample.label for sample in pictures.samples]
    if None in labels:
        raise ConfigError(
            "a classifier is trained on sets with one class a picture; "
            "this one has several, or captions"
        )
    found = torch.tensor(labels)
    if dataset is not None and int(found.max()) >= len(dataset.class_names):
        raise ConfigError(
            f"the data has a class {int(found.max())}, "
            f"but there are only {len(dataset.class_names)} class names"
        )
    return found


def class_scores(
    found: ZeroShotResult,
    labels: Int[Tensor, " pictures"],
    keys: Sequence[str],
    names: tuple[str, ...],
    protocol: dict[str, Any],
) -> Scores:
    """Everything that one class a picture gives; `keys` name the pictures, `names` the classes."""
    per_sample = PerSample.of(found.ranks.numpy(), keys)
    return Scores(
        metrics={"top1": found.top1, "top5": found.top5, "mean_per_class": found.mean_per_class},
        protocol=protocol,
        class_names=names,
        per_class=shares(found.per_class),
        confusion=tuple(map(tuple, found.confusion.tolist())),
        intervals=class_intervals(per_sample, labels),
        per_sample={"top1": per_sample},
    )


def class_intervals(per_sample: PerSample, labels: Int[Tensor, " pictures"]) -> Intervals:
    """Wilson's interval of top-1 and top-5, which are shares of independent pictures; one made of
    the classes' own for the mean over classes, and a bootstrap one for the mean of top-1 and
    top-5."""
    first, fifth = per_sample.correct(), per_sample.correct(5)
    return plain(
        {
            "top1": wilson(int(first.sum()), len(first)),
            "top5": wilson(int(fifth.sum()), len(fifth)),
            "mean_top1_top5": bootstrap_mean((first + fifth.astype(float)) / 2),
            "mean_per_class": mean_of_shares(first, labels.numpy()),
        }
    )


def plain(intervals: Mapping[str, Interval]) -> Intervals:
    """As JSON has them."""
    return {name: [found.low, found.high] for name, found in intervals.items()}


def shares(values: Float[Tensor, " classes"]) -> tuple[float | None, ...]:
    """One for each class; None for a class without pictures."""
    return tuple(None if math.isnan(value) else value for value in values.tolist())
