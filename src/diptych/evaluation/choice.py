"""Which caption fits: SugarCrepe (Hsieh et al. 2023, arXiv:2306.14610) and Winoground (Thrush et al. 2022)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def choice(
    images: Float[Tensor, "images width"],
    captions: Float[Tensor, "captions width"],
    counts: Sequence[int],
    fitting: Sequence[int],
) -> Bool[Tensor, " images"]:
    """Whether each picture is nearer to the caption that fits than to the others that it has; a tie is a mistake.

    Picture i owns the next `counts[i]` captions, of which `fitting[i]` fits.

    >>> import torch
    >>> from diptych.evaluation import choice
    >>> choice(torch.eye(2), torch.eye(2)[[0, 1, 0, 1]], [2, 2], [0, 0]).tolist()
    [True, False]
    """
    assert sum(counts) == len(captions), f"{sum(counts)} captions are owned, there are {len(captions)}"
    assert len(counts) == len(images), f"{len(counts)} numbers of captions, {len(images)} pictures"
    right = list[bool]()
    for image, own, fits in zip(images, captions.split(list(counts)), fitting):
        scores = own @ image
        right.append(int((scores >= scores[fits]).sum()) == 1)
    return torch.tensor(right)


def paired(images: Float[Tensor, "pairs 2 width"], captions: Float[Tensor, "pairs 2 width"]) -> dict[str, float]:
    """Winoground's three scores, of pairs of pictures, each with its caption: with s[i, c] = <picture i, caption c>

        text  = mean [s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]]
        image = mean [s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1]]
        group = mean [both];    chance is 1/4, 1/4 and 1/6

    >>> import torch
    >>> from diptych.evaluation.choice import paired
    >>> paired(torch.eye(2)[None], torch.eye(2)[None])
    {'text': 1.0, 'image': 1.0, 'group': 1.0}
    """
    s = images @ captions.transpose(1, 2)
    text = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    image = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    found = {"text": text, "image": image, "group": text & image}
    return {name: right.double().mean().item() for name, right in found.items()}
