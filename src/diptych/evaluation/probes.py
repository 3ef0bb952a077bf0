"""Scorers that train a classifier on the vectors of a dataset's training split."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.datasets import Dataset
from diptych.datasets.own_names import some
from diptych.evaluation.few_shot import SHOTS, few_shot, shots_that_fit
from diptych.evaluation.linear import LinearProbe, fit_probe
from diptych.evaluation.predictions import predict
from diptych.evaluation.scores import Inputs, Scores, class_scores, labels_of
from diptych.evaluation.zero_shot import zero_shot

_CLASSIFIER = {
    "classifier": "softmax regression with an L2 penalty, at its optimum",
    "features": "of the projection, as the tower gives them (not of unit length)",
}


def score_few_shot(inputs: Inputs) -> Scores:
    """Linear classifiers that saw a few pictures of each class, drawn several times; the metric is
    the accuracy with the most."""
    return inputs.on_main(lambda: _few_shot(inputs))


def _few_shot(inputs: Inputs) -> Scores:
    train, test = inputs.splits["train"], inputs.splits["test"]
    learned, asked = labels_of(train), labels_of(test)
    shots = inputs.shots or shots_that_fit(learned)
    # ImageNet's classifier is asked about a part of its classes, by other numbers.
    names = () if inputs.dataset.class_indices else inputs.dataset.class_names
    vectors = (train.features.float(), learned, test.features.float(), asked)
    among = inputs.dataset.class_indices
    probes = few_shot(*vectors, shots=shots, names=names, among=among)
    metrics, intervals = dict[str, float](), dict[str, list[float]]()
    for probe in probes:
        name = f"top1_{probe.shots}_shot"
        metrics[name] = probe.mean
        intervals[name] = [probe.mean - probe.half_width, probe.mean + probe.half_width]
    more: dict[str, Any] = {
        "validation": "up to four other training samples of each class",
        "draws": {str(probe.shots): list(probe.accuracies) for probe in probes},
        "intervals": "of the mean over draws, by Student's t",
    }
    protocol = {"metric": f"top1_{probes[-1].shots}_shot"} | _CLASSIFIER | more
    left_out = [str(count) for count in SHOTS if count not in shots and not inputs.shots]
    few = [f"{', '.join(left_out)} shots are left out: a class has too few training samples"]
    remarks = (*(few if left_out else ()), *_unseen(inputs.dataset, learned, asked))
    return Scores(metrics=metrics, intervals=intervals, protocol=protocol, remarks=remarks)


def _unseen(
    dataset: Dataset, learned: Int[Tensor, " n"], asked: Int[Tensor, " m"]
) -> tuple[str, ...]:
    """A remark on test pictures of classes that no training picture has: they can't be right."""
    # ImageNet's classifier is asked about a part of its classes, by other numbers.
    if dataset.class_indices:
        asked = torch.tensor(dataset.class_indices)[asked]
    strange = asked[~torch.isin(asked, learned)]
    if not len(strange):
        return ()
    numbers = strange.unique().tolist()
    names = dataset.class_names
    called = [names[number] if number < len(names) else str(number) for number in numbers]
    return (
        f"{len(strange):,} of {len(asked):,} test pictures can't be right: there are no training "
        f"pictures of their classes ({some(called)})",
    )


def score_linear(inputs: Inputs) -> Scores:
    """A linear classifier trained on `train`, its penalty chosen on `val` or on a fifth of `train`,
    asked about `test`."""
    return inputs.on_main(lambda: _linear(inputs))


def _linear(inputs: Inputs) -> Scores:
    dataset, probe = inputs.dataset, _trained(inputs)
    features, labels = inputs.pictures.features.float(), labels_of(inputs.pictures)
    known = (len(dataset.class_names), int(labels.max()) + 1, int(probe.labels.max()) + 1)
    classes = max(*known, *(place + 1 for place in dataset.class_indices))
    weights = _weights(probe, dataset, classes)
    # With a feature that is always 1, products with weights and bias are the classifier's scores.
    extended = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    found = zero_shot(extended, labels, weights)
    names = dataset.class_names or tuple(map(str, range(classes)))
    own = "val" in inputs.splits
    more: dict[str, Any] = {
        "strength": probe.strength,
        "validation": "the set's own" if own else "every fifth training sample of each class",
        "refit": "on all of them",
        "train": len(inputs.splits["train"].samples),
        "gradient": probe.gradient,
    }
    metric = dataset.metric if dataset.metric in ("top1", "mean_per_class") else "top1"
    protocol = {"metric": metric} | _CLASSIFIER | more
    scores = class_scores(found, labels, inputs.keys, names, protocol)
    return replace(
        scores,
        remarks=_unseen(dataset, probe.labels, labels),
        predictions=predict(extended, labels, weights, scale=1.0),
    )


def _trained(inputs: Inputs) -> LinearProbe:
    """Trained once, whichever datasets it is asked about: ImageNet's serves those that shift its
    pictures."""
    if inputs.probe_key not in inputs.probes:
        train, val = inputs.splits["train"], inputs.splits.get("val")
        inputs.probes[inputs.probe_key] = fit_probe(
            train.features.float(),
            labels_of(train),
            validation=(val.features.float(), labels_of(val)) if val else None,
        )
    return inputs.probes[inputs.probe_key]


def _weights(
    probe: LinearProbe, dataset: Dataset, classes: int
) -> Float[Tensor, "classes extended"]:
    """A row for each class that the dataset asks about: its weights, then its bias."""
    weights = torch.zeros(classes, len(probe.weights) + 1)
    # A class that was never seen in training has the lowest bias there is: it is never predicted.
    weights[:, -1] = torch.finfo(weights.dtype).min
    learned = torch.cat([probe.weights.cpu(), probe.bias.cpu()[None]])
    weights[probe.labels] = learned.T.to(weights.dtype)
    return weights[list(dataset.class_indices)] if dataset.class_indices else weights
