"""Pictures told apart by examples of each class, not by words: what a tower alone can do, too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from diptych.config import DataConfig
from diptych.config.alone import need
from diptych.datasets import open_own
from diptych.encoder import Encoder, FeatureExtractor, extract_features
from diptych.errors import DataError, ImageError
from diptych.evaluation.linear import DECADES, LinearProbe, fit_probe
from diptych.evaluation.scores import labels_of
from diptych.inputs import Picture

_FIFTH = 5
"""One of so many examples of a class is held out to choose the penalty."""
_UNTRIED = 100.0
"""The inverse penalty, for features of variance 1, where nothing can be held out."""


@dataclass(frozen=True, kw_only=True)
class ExampleClassifier:
    """A linear probe (`LinearProbe`) on a model's vectors, learned from examples. Made by `learn`.

    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.evaluation.examples import learn
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> classifier = learn(encoder, "synthetic:60")
    >>> len(classifier.names) > 1, classifier.examples
    (True, 60)
    """

    encoder: Encoder
    names: tuple[str, ...]
    """Of the classes that have examples, in the order of `logits`."""
    examples: int
    unread: tuple[str, ...]
    """A line on each example that can't be read."""
    probe: LinearProbe

    def logits(
        self,
        images: Picture | Sequence[Picture],
        unreadable: Callable[[int, ImageError], None] | None = None,
    ) -> Float[Tensor, "images names"]:
        """Of pictures, whose softmax are the probabilities; `unreadable` is as for
        `Encoder.embed_images`."""
        return self.probe.scores(self.encoder.embed_images(images, unreadable=unreadable))


def learn(encoder: Encoder, data: DataConfig | str, progress: bool = False) -> ExampleClassifier:
    """From pictures with one class each: a folder with a folder for each class, a table or shards
    (`datasets.open_own`); of data with parts, the training part is the one to name.

    The penalty is the one of `linear.DECADES` under which held-out examples, a fifth of each class,
    are the most likely; where each class has a single one, it is a fixed one. Raises DataError
    for data that can't be used, of fewer than two classes too, and ConfigError for a model without
    an image tower.
    """
    need(encoder.config, "image", encoder.name)
    dataset = open_own(data, "zero-shot")
    extractor = FeatureExtractor(encoder=encoder, preprocess=encoder.preprocess)
    [found] = extract_features([extractor], dataset.source, fields=("label",), progress=progress)
    if not len(found.rows):
        raise DataError(f"no example in {dataset.name} can be read")
    labels = labels_of(found, dataset)
    probe = _fit(found.vectors, labels)
    return ExampleClassifier(
        encoder=encoder,
        names=tuple(dataset.class_names[label] for label in probe.labels.tolist()),
        examples=len(labels),
        unread=tuple(f"{bad.key}: {bad.reason}" for bad in found.bad),
        probe=probe,
    )


def _fit(vectors: Float[Tensor, "n width"], labels: Int[Tensor, " n"]) -> LinearProbe:
    variance = vectors.var(0, correction=0).sum().item()
    if not variance:
        raise DataError("all examples have one vector: they can't be told apart")
    held, best = _held(labels), _UNTRIED
    if held.any():
        learned, asked = (vectors[~held], labels[~held]), (vectors[held], labels[held])
        # By likelihood, not by accuracy, in which penalties tie: probabilities are to mean
        # something.
        best = min(
            DECADES,
            key=lambda decade: _surprise(
                fit_probe(*learned, strengths=(decade / variance,)), asked
            ),
        )
    return fit_probe(vectors, labels, strengths=(best / variance,))


def _held(labels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """The last fifth of each class, at least one; of a class with a single example none."""
    held = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        places = (labels == label).nonzero()[:, 0]
        count = max(1, len(places) // _FIFTH) if len(places) > 1 else 0
        held[places[len(places) - count :]] = True
    return held


def _surprise(probe: LinearProbe, asked: tuple[Tensor, Tensor]) -> float:
    """The mean negative logarithm of the probability of the right class."""
    vectors, labels = asked
    places = torch.searchsorted(probe.labels, labels)
    return cross_entropy(probe.scores(vectors), places).item()
