"""The table of a vocabulary's vectors."""

import torch
from torch import nn


def word_table(vocab_size: int, width: int, still: int | None = None) -> nn.Embedding:
    """An embedding without values, which its tower's `init` fills. `still`: an id whose vector gets
    no gradient, as padding's; None: there is none.

    `nn.Embedding` would draw them first; on `meta` that imports torch's compiler, which takes two
    seconds.

    >>> from diptych.nn import word_table
    >>> word_table(vocab_size=10, width=8).weight.shape
    torch.Size([10, 8])
    """
    empty = torch.empty(vocab_size, width)
    return nn.Embedding.from_pretrained(empty, freeze=False, padding_idx=still)
