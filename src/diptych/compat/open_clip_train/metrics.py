"""What open_clip_train measures of pairs."""

from collections.abc import Sequence
from typing import Any

import torch
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
    `retrieval_chunk_size`. What is equally near stands in the way, as in `diptych.evaluation`.

    >>> import torch
    >>> from diptych.compat.open_clip_train.metrics import get_clip_metrics
    >>> found = get_clip_metrics(torch.eye(3), torch.eye(3)[[0, 2, 1]])
    >>> found["image_to_text_median_rank"], round(found["text_to_image_R@1"], 4)
    (3.0, 0.3333)
    """
    images, texts = _joined(image_features), _joined(text_features)
    found = retrieval(images, texts, torch.arange(len(texts)))
    return {
        **_said(f"{image_key}_to_{text_key}", found.image_ranks, found.image_to_text),
        **_said(f"{text_key}_to_{image_key}", found.text_ranks, found.text_to_image),
    }


def maybe_compute_generative_loss(model_out: dict[str, Tensor]) -> Tensor | None:
    """The cross entropy of `logits` and the `labels` that followed, where a model gives them."""
    if "logits" not in model_out or "labels" not in model_out:
        return None
    return torch.nn.functional.cross_entropy(
        model_out["logits"].permute(0, 2, 1), model_out["labels"]
    )


def _joined(features: Features) -> Tensor:
    return (features if isinstance(features, Tensor) else torch.cat(list(features))).float()


def _said(name: str, ranks: Tensor, recalls: dict[int, float]) -> dict[str, float]:
    median = ranks.double().quantile(0.5).floor()
    found = {
        f"{name}_mean_rank": ranks.double().mean().item() + 1,
        f"{name}_median_rank": median.item() + 1,
    }
    return found | {f"{name}_R@{k}": recall for k, recall in recalls.items()}
