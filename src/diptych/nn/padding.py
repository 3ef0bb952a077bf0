"""Which tokens of texts are no padding, and their mean."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def real_tokens(
    ids: Int[Tensor, "batch length"], pad_id: int | None, valid: Tensor | None = None
) -> Bool[Tensor, "batch length"]:
    """Which tokens are no padding: those that are `valid`, else those of other ids than `pad_id`
    (None: all). Of a text that is all padding the first counts: attention over nothing would have
    no numbers.

    >>> import torch
    >>> from diptych.nn.padding import real_tokens
    >>> real_tokens(torch.tensor([[5, 0], [0, 0]]), pad_id=0).tolist()
    [[True, False], [True, False]]
    """
    if valid is None and pad_id is None:
        return torch.ones_like(ids, dtype=torch.bool)
    real = ids != pad_id if valid is None else valid.bool()
    first = torch.zeros_like(real)
    first[:, 0] = True
    return real | (first & ~real.any(dim=1, keepdim=True))


def mean_of_real(
    x: Float[Tensor, "batch length width"], real: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch width"]:
    """The mean of the tokens that aren't padding; 0 of a row without any.

    >>> import torch
    >>> from diptych.nn.padding import mean_of_real
    >>> x, ids = torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[5, 6, 0]])
    >>> mean_of_real(x, ids != 0)
    tensor([[3.]])
    """
    shares = real.to(x.dtype)[..., None]
    return (x * shares).sum(dim=1) / shares.sum(dim=1).clamp(min=1)


def for_heads(
    real: Bool[Tensor, "batch tokens"] | None,
) -> Bool[Tensor, "batch 1 1 tokens"] | None:
    """What all queries of a row see, as attention takes it; None: all.

    >>> import torch
    >>> from diptych.nn.padding import for_heads
    >>> for_heads(torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 1, 1, 5])
    """
    return None if real is None else real[:, None, None]
