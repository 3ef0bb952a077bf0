"""How well a linear classifier reads the pictures' vectors: what they know, whatever the words."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Inverse weights of the penalty that are tried."""


def linear_probe(
    train: Float[Tensor, "n width"],
    train_labels: Int[Tensor, " n"],
    test: Float[Tensor, "m width"],
    test_labels: Int[Tensor, " m"],
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """Accuracy on `test`, in [0, 1], of logistic regression with an L2 penalty (Radford et al. 2021, arXiv:2103.00020,
    appendix A.3). The penalty is chosen on every fifth training sample, then all of them are used.

    >>> import torch
    >>> from diptych.evaluation.probe import linear_probe
    >>> vectors, labels = torch.eye(4).repeat(10, 1), torch.arange(4).repeat(10)
    >>> linear_probe(vectors, labels, torch.eye(4), torch.arange(4))
    1.0
    """
    x, y, held = train.numpy(), train_labels.numpy(), np.arange(len(train)) % 5 == 0
    best = max(strengths, key=lambda strength: _accuracy(x[~held], y[~held], x[held], y[held], strength))
    return _accuracy(x, y, test.numpy(), test_labels.numpy(), best)


def _accuracy(x: np.ndarray, y: np.ndarray, test: np.ndarray, labels: np.ndarray, strength: float) -> float:
    from sklearn.linear_model import LogisticRegression

    return float(LogisticRegression(C=strength, max_iter=2000).fit(x, y).score(test, labels))
