"""Image transforms as open_clip returns them: from a Pillow picture to a tensor."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diptych.config import AugmentConfig
from diptych.inputs import Picture, Preprocess, TrainCrop, decode
from diptych.inputs.room import room


@dataclass(frozen=True)
class TrainTransform:
    """open_clip's default in training: a random crop of 0.9 to 1 of the picture's area, then
    normalisation.

    Draws from torch's global generator. `preprocess` says size and normalisation.
    """

    preprocess: Preprocess

    def __call__(self, picture: Picture) -> Float[Tensor, "3 height width"]:
        """The normalised crop."""
        crop = TrainCrop(
            AugmentConfig(scale=(0.9, 1.0)),
            self.preprocess.size,
            self.preprocess.config.interpolation,
        )
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        with room.held():
            square = crop(decode(picture), rng)
        return self.preprocess.normalise(square[None])[0]
