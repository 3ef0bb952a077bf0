"""Which scorer measures which kind of dataset, and the scorers that compare whole vectors."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.datasets import Dataset
from diptych.encoder import ImageFeatures
from diptych.errors import ConfigError, UnknownNameError
from diptych.evaluation.intervals import bootstrap_mean, bootstrap_means, wilson
from diptych.evaluation.metrics import average_precision, caption_choice, choices, roc_auc
from diptych.evaluation.per_sample import PerSample
from diptych.evaluation.predictions import predict
from diptych.evaluation.probes import score_few_shot, score_linear
from diptych.evaluation.retrieval import RetrievalResult, retrieval
from diptych.evaluation.scores import (
    Inputs,
    Intervals,
    Scores,
    class_scores,
    labels_of,
    plain,
    shares,
)
from diptych.evaluation.tokens import score_tokens
from diptych.evaluation.zero_shot import zero_shot

KS = (1, 5, 10)
"""Of recalls."""


def score_zero_shot(inputs: Inputs) -> Scores:
    """The class whose text vector is nearest to the picture's."""
    classes = inputs.class_vectors()
    return inputs.on_main(lambda: _zero_shot(inputs, classes))


def _zero_shot(inputs: Inputs, classes: Float[Tensor, "classes width"]) -> Scores:
    dataset, vectors = inputs.dataset, inputs.pictures.vectors
    labels = labels_of(inputs.pictures, dataset)
    found = zero_shot(vectors, labels, classes)
    protocol = _ensembling(dataset) | {"ties": "the earlier class wins"}
    scores = class_scores(found, labels, inputs.keys, dataset.class_names, protocol)
    more = dict[str, float]()
    if dataset.metric == "mean_top1_top5":
        more["mean_top1_top5"] = (found.top1 + found.top5) / 2
    elif dataset.metric == "auc":
        more["auc"] = _area_under_roc(vectors @ classes.T, labels)
    predictions = predict(vectors, labels, classes, inputs.scale)
    return replace(scores, metrics=scores.metrics | more, predictions=predictions)


def _area_under_roc(
    scores: Float[Tensor, "pictures classes"], labels: Int[Tensor, " pictures"]
) -> float:
    if scores.shape[1] != 2 or len(labels.unique()) != 2:
        raise ConfigError("the area under the ROC curve is for pictures of two classes")
    return roc_auc(scores[:, 1] - scores[:, 0], labels == 1)


def _ensembling(dataset: Dataset) -> dict[str, Any]:
    prompts = {"class_prompts": sum(map(len, dataset.class_prompts))}
    return (prompts if dataset.class_prompts else {}) | {
        "templates": list(dataset.templates),
        "ensembling": "mean of unit text vectors, scaled to unit length",
    }


def score_multilabel(inputs: Inputs) -> Scores:
    """Several classes a picture: how well each class's score orders the pictures."""
    classes = inputs.class_vectors()
    return inputs.on_main(lambda: _multilabel(inputs, classes))


def _multilabel(inputs: Inputs, classes: Float[Tensor, "classes width"]) -> Scores:
    samples = inputs.pictures.samples
    truth = torch.zeros(len(samples), len(classes), dtype=torch.bool)
    for row, sample in enumerate(samples):
        truth[row, list(sample.labels)] = True
    scores = inputs.pictures.vectors @ classes.T
    exact, eleven_points = (average_precision(scores, truth, points=points) for points in (0, 11))
    # Classes without a positive have no average precision and don't count in the mean.
    return Scores(
        metrics={"map": float(exact.nanmean()), "map11": float(eleven_points.nanmean())},
        protocol=_ensembling(inputs.dataset) | {"ties": "count together"},
        class_names=inputs.dataset.class_names,
        per_class=shares(exact),
    )


def score_retrieval(inputs: Inputs) -> Scores:
    """Pictures by their captions, and captions by their pictures."""
    captions = inputs.caption_vectors()
    return inputs.on_main(lambda: _retrieval(inputs.pictures, inputs.keys, captions))


def _retrieval(
    pictures: ImageFeatures, keys: Sequence[str], captions: Float[Tensor, "captions width"]
) -> Scores:
    counts = torch.tensor([len(sample.captions) for sample in pictures.samples])
    owners = torch.arange(len(counts)).repeat_interleave(counts)
    found = retrieval(pictures.vectors, captions, owners)
    metrics = {f"image_to_text_r{k}": share for k, share in found.image_to_text.items()}
    metrics |= {f"text_to_image_r{k}": share for k, share in found.text_to_image.items()}
    intervals, per_sample = recall_intervals(found, owners, keys)
    return Scores(
        metrics=metrics | {"mean_recall": found.mean_recall},
        intervals=intervals,
        per_sample=per_sample,
        protocol={"captions": len(owners), "ties": "stand before the right answer"},
    )


def recall_intervals(
    found: RetrievalResult, owners: Int[Tensor, " captions"], names: Sequence[str]
) -> tuple[Intervals, dict[str, PerSample]]:
    """Confidence intervals of recalls, and the per-sample results; `owners` are the captions'
    pictures, `names` the pictures'.

    Captions of one picture are no independent evidence: the bootstrap draws pictures, each with
    all of its captions.
    """
    of_captions, of_pictures = owners.numpy(), owners.unique().numpy()
    lines = [f"{names[owner]} {place}" for place, owner in enumerate(owners.tolist())]
    pictures = [names[int(owner)] for owner in of_pictures]
    texts = PerSample.of(found.text_ranks.numpy(), lines, of_captions)
    images = PerSample.of(found.image_ranks.numpy(), pictures, of_pictures)
    intervals = {f"text_to_image_r{k}": bootstrap_mean(texts.correct(k), of_captions) for k in KS}
    for k in KS:
        hits = int(images.correct(k).sum())
        intervals[f"image_to_text_r{k}"] = wilson(hits, len(images.ranks))
    both = [(_mean_recall(each), each.clusters) for each in (texts, images)]
    intervals["mean_recall"] = bootstrap_means(both)
    return plain(intervals), {"text_to_image_r1": texts, "image_to_text_r1": images}


def _mean_recall(found: PerSample) -> Float[np.ndarray, " n"]:
    """Of each sample: the mean of the recalls is the mean of these."""
    return np.mean([found.correct(k) for k in KS], axis=0)


def score_choice(inputs: Inputs) -> Scores:
    """Which of two captions fits a picture."""
    captions = inputs.caption_vectors()
    return inputs.on_main(lambda: _choice(inputs.pictures, inputs.keys, captions))


def _choice(
    pictures: ImageFeatures, keys: Sequence[str], captions: Float[Tensor, "captions width"]
) -> Scores:
    if any(len(sample.captions) != 2 for sample in pictures.samples):
        raise ConfigError(
            "a choice is between two captions; a picture of this set has another number of them"
        )
    scores = (captions.unflatten(0, (-1, 2)) @ pictures.vectors[:, :, None])[:, :, 0]
    fitting = torch.tensor([[sample.label or 0] for sample in pictures.samples])
    right, wrong = scores.gather(1, fitting)[:, 0], scores.gather(1, 1 - fitting)[:, 0]
    metrics = {"choice": caption_choice(right, wrong)}
    if _in_pairs(keys):
        # Both pictures of a pair have the same two captions: scores[pair, picture, caption].
        found = choices(scores.unflatten(0, (-1, 2)).transpose(1, 2))
        metrics |= {"text": found.text, "image": found.image, "group": found.group}
    intervals, per_sample = choice_intervals((right > wrong).tolist(), keys)
    protocol = {"captions": 2 * len(scores), "ties": "are mistakes"}
    return Scores(metrics=metrics, protocol=protocol, intervals=intervals, per_sample=per_sample)


def choice_intervals(
    correct: Sequence[bool], names: Sequence[str]
) -> tuple[Intervals, dict[str, PerSample]]:
    """Wilson's interval of choices between two captions, and the per-sample results."""
    per_sample = PerSample.of(1 - np.array(correct, dtype=int), names)
    return plain({"choice": wilson(sum(correct), len(correct))}), {"choice": per_sample}


def _in_pairs(keys: Sequence[str]) -> bool:
    """Whether they are PAIR/0, PAIR/1, and so on."""
    halves = [key.rpartition("/") for key in keys]
    return [half for _, _, half in halves] == ["0", "1"] * (len(keys) // 2) and all(
        one[0] == other[0] for one, other in zip(halves[::2], halves[1::2])
    )


Scorer = Callable[[Inputs], Scores]
SCORERS: dict[tuple[str, str], Scorer] = {
    ("zero-shot", "vectors"): score_zero_shot,
    ("video", "vectors"): score_zero_shot,
    ("multilabel", "vectors"): score_multilabel,
    ("retrieval", "vectors"): score_retrieval,
    ("choice", "vectors"): score_choice,
    ("linear", "vectors"): score_linear,
    ("fewshot", "vectors"): score_few_shot,
    ("zero-shot", "tokens"): score_tokens,
    ("video", "tokens"): score_tokens,
    ("zero-shot", "tokens-as-published"): partial(score_tokens, mask_padding=False),
    ("video", "tokens-as-published"): partial(score_tokens, mask_padding=False),
}
"""By what is done (a dataset's kind, or a classifier that is trained) and what is compared."""
BY = tuple(dict.fromkeys(by for _, by in SCORERS))
"""What can be compared: whole vectors, or patches with words."""


def scorer(kind: str, by: str) -> Scorer:
    """The scorer for a kind of task. Raises ConfigError for what can't be combined.

    >>> from diptych.evaluation.scorers import scorer
    >>> scorer("choice", "vectors").__name__
    'score_choice'
    """
    if by not in BY:
        raise UnknownNameError("way to compare", by, BY)
    found = SCORERS.get((kind, by))
    if found is None:
        fitting = next(known for known, way in SCORERS if way == by)
        raise ConfigError(f"--by {by} is for {fitting}, not for {kind}")
    return found
