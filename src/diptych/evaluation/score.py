"""From vectors to figures: one function a kind of task. No picture and no tower is touched here."""

import math
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.encoder import Pictures, Texts, class_vectors
from diptych.errors import ConfigError
from diptych.evaluation.retrieval import retrieval
from diptych.evaluation.subject import Subject
from diptych.evaluation.zero_shot import zero_shot


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The part of a result that scoring gives; the fields are `Result`'s."""

    metrics: dict[str, float]
    protocol: dict[str, Any]
    class_names: tuple[str, ...] = ()
    per_class: tuple[float | None, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()


def text_vectors(subject: Subject, pictures: Pictures, texts: Texts) -> Float[Tensor, "texts width"]:
    """What the pictures of a set are compared with: a vector a class, or one a caption."""
    if subject.class_names:
        return class_vectors(texts, subject.class_names, subject.templates)
    return texts(chain.from_iterable(sample.captions for sample in pictures.samples))


def score(subject: Subject, pictures: Pictures, words: Float[Tensor, "texts width"]) -> Findings:
    """The figures of the set's own task, without training."""
    match subject.kind:
        case "zero-shot" | "video":
            return _zero_shot(subject, pictures, words)
        case "retrieval":
            return _retrieval(pictures, words)


def _zero_shot(subject: Subject, pictures: Pictures, words: Float[Tensor, "classes width"]) -> Findings:
    labels = torch.tensor([sample.label for sample in pictures.samples])
    if int(labels.max()) >= len(words):
        raise ConfigError(f"the data has a class {int(labels.max())}, but there are only {len(words)} class names")
    found = zero_shot(pictures.vectors, labels, words)
    metrics = {"top1": found.top1, "top5": found.top5, "mean_per_class": found.mean_per_class}
    if subject.metric == "mean_top1_top5":
        metrics[subject.metric] = (found.top1 + found.top5) / 2
    return Findings(
        metrics=metrics,
        protocol={
            "templates": list(subject.templates),
            "ensembling": "mean of unit text vectors, scaled to unit length",
            "ties": "the earlier class wins",
        },
        class_names=subject.class_names,
        per_class=tuple(None if math.isnan(share) else share for share in found.per_class.tolist()),
        confusion=tuple(map(tuple, found.confusion.tolist())),
    )


def _retrieval(pictures: Pictures, words: Float[Tensor, "captions width"]) -> Findings:
    owners = torch.tensor([i for i, sample in enumerate(pictures.samples) for _ in sample.captions])
    found = retrieval(pictures.vectors, words, owners)
    metrics = {f"image_to_text_r{k}": share for k, share in found.image_to_text.items()}
    metrics |= {f"text_to_image_r{k}": share for k, share in found.text_to_image.items()}
    return Findings(
        metrics=metrics | {"mean_recall": found.mean_recall},
        protocol={"captions": len(owners), "ties": "stand before the right answer"},
    )
