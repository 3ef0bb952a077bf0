"""A model that is asked, not trained."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module, gradients: bool = False) -> Generator[None, None, None]:
    """Evaluation mode within, and no gradients unless they are asked for; the modes come back, so
    that a model in training can be asked.

    >>> from diptych import models, pretrained
    >>> from diptych.models.evaluating import evaluating
    >>> model = models.build(pretrained.get("tiny"))
    >>> with evaluating(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    training = [module for module in model.modules() if module.training] if model.training else []
    if training:
        model.eval()
    try:
        with torch.enable_grad() if gradients else torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
