"""The table of a vocabulary's vectors."""

import torch
from torch import nn


def word_table(vocab_size: int, width: int) -> nn.Embedding:
    """An embedding without values, which its tower's `init` fills.

    `nn.Embedding` would draw them first; on `meta` that imports torch's compiler, which takes two
    seconds.

    >>> from diptych.nn import word_table
    >>> word_table(vocab_size=10, width=8).weight.shape
    torch.Size([10, 8])
    """
    return nn.Embedding.from_pretrained(torch.empty(vocab_size, width), freeze=False)
