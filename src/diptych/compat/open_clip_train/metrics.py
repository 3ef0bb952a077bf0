"""What open_clip_train measures of pairs."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.evaluation import retrieval

Features = Tensor | Sequence[Tensor]


def get_clip_metrics(
    image_features: Features,
    text_features: Features,
    logit_scale: Any = 1.0,
    image_key: str = "image",
    text_key: str = "text",
    retrieval_chunk_size: int = 0,
) -> dict[str, float]:
    """Mean and median rank (from 1), and recall at 1, 5 and 10, of pairs of unit vectors, both
    ways. Ranks are exact, whatever `logit_scale`, and no matrix of all pairs is held, whatever
    `retrieval_chunk_size`. Of equal vectors those before a pair's own stand in the way.

    >>> import torch
    >>> from diptych.compat.open_clip_train.metrics import get_clip_metrics
    >>> found = get_clip_metrics(torch.eye(3), torch.eye(3)[[0, 2, 1]])
    >>> found["image_to_text_median_rank"], round(found["text_to_image_R@1"], 4)
    (3.0, 0.3333)
    """
    images, texts = _joined(image_features), _joined(text_features)
    found = retrieval(images, texts, torch.arange(len(texts)))
    # `retrieval` counts all that is as near: a collapsed model recalls nothing. open_clip's order
    # is that of the rows, where it recalls as much as by chance.
    return {
        **_said(f"{image_key}_to_{text_key}", found.image_ranks - _equals_behind(texts)),
        **_said(f"{text_key}_to_{image_key}", found.text_ranks - _equals_behind(images)),
    }


def _equals_behind(rows: Float[Tensor, "rows width"]) -> Int[Tensor, " rows"]:
    """How many rows behind each are equal to it."""
    groups = rows.cpu().unique(dim=0, return_inverse=True)[1]
    order = groups.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(rows))
    return groups.bincount().cumsum(0)[groups] - 1 - places


def maybe_compute_generative_loss(
    model_out: dict[str, Tensor],
    texts: Tensor | None = None,
    text_valid: Tensor | None = None,
    pad_id: int = 0,
) -> Tensor | None:
    """The cross entropy of `logits` and the next tokens: the model's `labels`, else those of
    `texts` that aren't padding, by `text_valid` or by `pad_id`. None where there are no logits, or
    nothing to compare them with."""
    logits, labels = model_out.get("logits"), model_out.get("labels")
    if logits is None:
        return None
    if labels is None:
        if texts is None:
            return None
        valid = texts != pad_id if text_valid is None else text_valid.bool()
        labels, logits = texts[:, 1:].masked_fill(~valid[:, 1:], -100), logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.permute(0, 2, 1), labels)


def _joined(features: Features) -> Tensor:
    return (features if isinstance(features, Tensor) else torch.cat(list(features))).float()


def _said(name: str, ranks: Tensor) -> dict[str, float]:
    ranks = ranks.double()
    found = {
        f"{name}_mean_rank": ranks.mean().item() + 1,
        f"{name}_median_rank": ranks.quantile(0.5).floor().item() + 1,
    }
    return found | {f"{name}_R@{k}": (ranks < k).double().mean().item() for k in (1, 5, 10)}
