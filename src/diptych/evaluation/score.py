"""From vectors to figures: one function a kind of task. No picture and no tower is touched here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.datasets import Dataset
from diptych.encoder import Pictures, Texts, class_vectors
from diptych.errors import ConfigError
from diptych.evaluation.answers import Answers, answers
from diptych.evaluation.few_shot import few_shot
from diptych.evaluation.linear import LinearProbe, fit_probe
from diptych.evaluation.metrics import average_precision, caption_choice, choices, roc_auc
from diptych.evaluation.outcomes import Outcomes
from diptych.evaluation.retrieval import retrieval
from diptych.evaluation.trust import of_choices, of_classes, of_recalls
from diptych.evaluation.zero_shot import ZeroShotResult, zero_shot


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The part of a result that scoring gives; the fields are `Result`'s."""

    metrics: dict[str, float]
    protocol: dict[str, Any]
    class_names: tuple[str, ...] = ()
    per_class: tuple[float | None, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    intervals: dict[str, list[float]] = field(default_factory=dict)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    answers: Answers | None = None
    """Of zero-shot classification."""

    @property
    def reported(self) -> dict[str, list[float]]:
        """The intervals of those figures that the set's task gives."""
        return {name: interval for name, interval in self.intervals.items() if name in self.metrics}


def text_vectors(
    subject: Dataset, pictures: Pictures, texts: Texts
) -> Float[Tensor, "texts width"]:
    """What the pictures of a set are compared with: a vector a class, or one a caption."""
    if subject.class_names:
        return class_vectors(texts, subject.class_names, subject.templates)
    return texts(chain.from_iterable(sample.captions for sample in pictures.samples))


def score(
    subject: Dataset, pictures: Pictures, words: Float[Tensor, "texts width"], scale: float
) -> Findings:
    """The figures of the set's own task, without training. `scale` is what the model multiplies
    cosines by."""
    match subject.kind:
        case "zero-shot" | "video":
            return _zero_shot(subject, pictures, words, scale)
        case "multilabel":
            return _multilabel(subject, pictures, words)
        case "retrieval":
            return _retrieval(pictures, words)
        case "choice":
            return _choice(pictures, words)


def _zero_shot(
    subject: Dataset, pictures: Pictures, words: Float[Tensor, "classes width"], scale: float
) -> Findings:
    labels = _labels(pictures)
    if int(labels.max()) >= len(words):
        raise ConfigError(
            f"the data has a class {int(labels.max())}, but there are only {len(words)} class names"
        )
    found = zero_shot(pictures.vectors, labels, words)
    ties = {"ties": "the earlier class wins"}
    findings = classified(
        found, labels, _keys(pictures), subject.class_names, _ensembled(subject) | ties
    )
    more = dict[str, float]()
    if subject.metric == "mean_top1_top5":
        more = {subject.metric: (found.top1 + found.top5) / 2}
    elif subject.metric == "auc":
        more = {subject.metric: _area_under_roc(pictures.vectors @ words.T, labels)}
    given = answers(pictures.vectors, labels, words, scale)
    return replace(findings, metrics=findings.metrics | more, answers=given)


def _area_under_roc(
    scores: Float[Tensor, "pictures classes"], labels: Int[Tensor, " pictures"]
) -> float:
    if scores.shape[1] != 2 or len(labels.unique()) != 2:
        raise ConfigError("the area under the ROC curve is for pictures of two classes")
    return roc_auc(scores[:, 1] - scores[:, 0], labels == 1)


def classified(
    found: ZeroShotResult,
    labels: Int[Tensor, " pictures"],
    keys: Sequence[str],
    names: tuple[str, ...],
    protocol: dict[str, Any],
) -> Findings:
    """Everything that one class a picture gives; `keys` name the pictures, `names` the classes."""
    intervals, outcomes = of_classes(found, labels, keys)
    return Findings(
        metrics={"top1": found.top1, "top5": found.top5, "mean_per_class": found.mean_per_class},
        protocol=protocol,
        class_names=names,
        per_class=tuple(None if math.isnan(share) else share for share in found.per_class.tolist()),
        confusion=tuple(map(tuple, found.confusion.tolist())),
        intervals=intervals,
        outcomes=outcomes,
    )


def _ensembled(subject: Dataset) -> dict[str, Any]:
    return {
        "templates": list(subject.templates),
        "ensembling": "mean of unit text vectors, scaled to unit length",
    }


def _multilabel(
    subject: Dataset, pictures: Pictures, words: Float[Tensor, "classes width"]
) -> Findings:
    truth = torch.zeros(len(pictures.samples), len(words), dtype=torch.bool)
    for row, sample in enumerate(pictures.samples):
        truth[row, list(sample.labels)] = True
    scores = pictures.vectors @ words.T
    plain, eleven = (average_precision(scores, truth, points=points) for points in (0, 11))
    return Findings(
        metrics={"map": float(plain.nanmean()), "map11": float(eleven.nanmean())},
        protocol=_ensembled(subject) | {"ties": "count together"},
        class_names=subject.class_names,
        per_class=tuple(None if math.isnan(value) else value for value in plain.tolist()),
    )


def _retrieval(pictures: Pictures, words: Float[Tensor, "captions width"]) -> Findings:
    owners = torch.tensor([i for i, sample in enumerate(pictures.samples) for _ in sample.captions])
    found = retrieval(pictures.vectors, words, owners)
    metrics = {f"image_to_text_r{k}": share for k, share in found.image_to_text.items()}
    metrics |= {f"text_to_image_r{k}": share for k, share in found.text_to_image.items()}
    intervals, outcomes = of_recalls(found, owners, _keys(pictures))
    return Findings(
        metrics=metrics | {"mean_recall": found.mean_recall},
        intervals=intervals,
        outcomes=outcomes,
        protocol={"captions": len(owners), "ties": "stand before the right answer"},
    )


def _choice(pictures: Pictures, words: Float[Tensor, "captions width"]) -> Findings:
    if any(len(sample.captions) != 2 for sample in pictures.samples):
        raise ConfigError(
            "a choice is between two captions; a picture of this set has another number of them"
        )
    scores = (words.unflatten(0, (-1, 2)) @ pictures.vectors[:, :, None])[:, :, 0]
    fitting = torch.tensor([[sample.label or 0] for sample in pictures.samples])
    right, wrong = scores.gather(1, fitting)[:, 0], scores.gather(1, 1 - fitting)[:, 0]
    metrics = {"choice": caption_choice(right, wrong)}
    if _in_pairs([sample.key for sample in pictures.samples]):
        # Both pictures of a pair have the same two captions: scores[pair, picture, caption].
        found = choices(scores.unflatten(0, (-1, 2)).transpose(1, 2))
        metrics |= {"text": found.text, "image": found.image, "group": found.group}
    intervals, outcomes = of_choices((right > wrong).tolist(), _keys(pictures))
    protocol = {"captions": 2 * len(scores), "ties": "are mistakes"}
    return Findings(metrics=metrics, protocol=protocol, intervals=intervals, outcomes=outcomes)


def _in_pairs(keys: Sequence[str]) -> bool:
    """Whether they are PAIR/0, PAIR/1, and so on."""
    halves = [key.rpartition("/") for key in keys]
    return [half for _, _, half in halves] == ["0", "1"] * (len(keys) // 2) and all(
        one[0] == other[0] for one, other in zip(halves[::2], halves[1::2])
    )


def score_few_shot(pictures: Mapping[str, Pictures]) -> Findings:
    """Linear classifiers that saw a few pictures of each class, drawn several times; `top1` is that
    of the most."""
    features = [
        (found.features.float(), _labels(found)) for found in (pictures["train"], pictures["test"])
    ]
    probes = few_shot(*features[0], *features[1])
    metrics = {f"top1_{probe.shots}_shot": probe.mean for probe in probes}
    intervals = {
        f"top1_{probe.shots}_shot": [probe.mean - probe.half_width, probe.mean + probe.half_width]
        for probe in probes
    }
    return Findings(
        metrics=metrics,
        intervals=intervals,
        protocol={
            "metric": f"top1_{probes[-1].shots}_shot",
            "classifier": "softmax regression with an L2 penalty, at its optimum",
            "features": "of the projection, as the tower gives them (not of unit length)",
            "validation": "up to four other training samples of each class",
            "draws": {str(probe.shots): list(probe.accuracies) for probe in probes},
            "intervals": "of the mean over draws, by Student's t",
        },
    )


def train_linear(pictures: Mapping[str, Pictures]) -> LinearProbe:
    """A linear classifier trained on `train`, its penalty chosen on `val` or on a fifth of it."""
    features = {
        split: (found.features.float(), _labels(found))
        for split, found in pictures.items()
        if split != "test"
    }
    return fit_probe(*features["train"], validation=features.get("val"))


def score_linear(task: Dataset, pictures: Mapping[str, Pictures], probe: LinearProbe) -> Findings:
    """What `train_linear` gave, asked about `test`."""
    test, labels = pictures["test"].features.float(), _labels(pictures["test"])
    # Scores are products with the weights and the bias; a class that was never seen in training
    # gets none.
    asked = max(
        (len(task.class_names), int(labels.max()) + 1, *(place + 1 for place in task.class_indices))
    )
    classes = max(asked, int(probe.labels.max()) + 1)
    weights = torch.zeros(classes, test.shape[1] + 1)
    weights[:, -1] = torch.finfo(weights.dtype).min
    weights[probe.labels] = torch.cat([probe.weights.cpu(), probe.bias.cpu()[None]]).T.to(
        weights.dtype
    )
    if task.class_indices:
        weights = weights[list(task.class_indices)]
    found = zero_shot(torch.cat([test, torch.ones(len(test), 1)], dim=1), labels, weights)
    metric = task.metric if task.metric in ("top1", "mean_per_class") else "top1"
    return classified(
        found,
        labels,
        _keys(pictures["test"]),
        task.class_names or tuple(map(str, range(classes))),
        {
            "metric": metric,
            "classifier": "softmax regression with an L2 penalty, at its optimum",
            "features": "of the projection, as the tower gives them (not of unit length)",
            "strength": probe.strength,
            "validation": "the set's own"
            if "val" in pictures
            else "every fifth training sample of each class",
            "refit": "on all of them",
            "train": len(pictures["train"].samples),
            "gradient": probe.gradient,
        },
    )


def _keys(pictures: Pictures) -> list[str]:
    return [sample.key for sample in pictures.samples]


def _labels(pictures: Pictures) -> Int[Tensor, " pictures"]:
    labels = [sample.label for sample in pictures.samples]
    if None in labels:
        raise ConfigError(
            "a classifier is trained on sets with one class a picture; this one has several, "
            "or captions"
        )
    return torch.tensor(labels)
