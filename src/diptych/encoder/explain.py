"""What an image tower sees where: heat maps, attention weights, patch features of pictures."""

from collections.abc import Iterable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.encoder.encoder import Encoder
from diptych.inputs import Picture
from diptych.inputs.picture import is_picture
from diptych.models import heat
from diptych.models.evaluating import evaluating


def attention_weights(
    encoder: Encoder, image: Picture
) -> list[Float[Tensor, "heads queries tokens"]]:
    """Of one picture, the attention weights of each layer of the image tower, an attention pool's
    last: see `models.heat.attention_weights`, which raises, too.

    >>> import torch
    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.encoder import attention_weights
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> grey = torch.full((3, 60, 80), 128, dtype=torch.uint8)
    >>> [layer.shape for layer in attention_weights(encoder, grey)][-1]
    torch.Size([4, 9, 9])
    """
    with evaluating(encoder.model):
        layers = heat.attention_weights(encoder.model.image, encoder.pixels([image]))
    return [layer[0].float().cpu().clone() for layer in layers]


def patch_features(
    encoder: Encoder, images: Picture | Iterable[Picture]
) -> Float[Tensor, "images rows columns width"]:
    """Unit vectors of each place of the pictures, which may be compared with texts' vectors: those
    that `Encoder.explain` compares (`Tower.patch_vectors`). The tower's tokens before that are
    `encoder.model.image(encoder.pixels(images), tokens="raw")`, or "normed", "projected".

    Raises ConfigError for a tower whose patches have none of their own (a convolutional net).

    >>> import torch
    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.encoder import patch_features
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> patch_features(encoder, torch.full((3, 60, 80), 128, dtype=torch.uint8)).shape
    torch.Size([1, 3, 3, 128])
    """
    several = [images] if is_picture(images) else images
    with evaluating(encoder.model):
        vectors = heat.patch_vectors(
            encoder.model.image, encoder.pixels(cast(list[Picture], several))
        )
    return torch.nn.functional.normalize(vectors.float().cpu().clone(), dim=-1)
