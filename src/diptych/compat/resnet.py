"""CLIP's ResNet with open_clip's face: also what its forward pass there has between the parts.

https://github.com/mlfoundations/open_clip, src/open_clip/modified_resnet.py
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.parts import Parts
from diptych.compat.towers import OpenClipVisual
from diptych.config import ClipConfig
from diptych.models import Tower


class OpenClipResNet(OpenClipVisual):
    """`model.visual`: its `stem`, stages and `attnpool` can be called one after the other, as
    scripts do that want the stages' maps. The tower itself doesn't call `stem`, activations and
    `avgpool`, so hooks on these never fire.
    """

    def __init__(self, tower: Tower[Any], config: ClipConfig):
        super().__init__(tower, config)
        relu = nn.ReLU()
        self.act1 = self.act2 = self.act3 = relu
        self.relu1 = self.relu2 = self.relu3 = relu
        """OpenAI's names of the same."""
        self.avgpool = nn.AvgPool2d(2)

    def stem(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels high wide"]:
        """The first three convolutions and the pool behind them."""
        for layer in self.tower.stem:
            x = F.relu(layer(x))
        return self.avgpool(x)

    @property
    def attnpool(self) -> "AttentionPool":
        """What makes vectors of the last stage's map."""
        return AttentionPool(self.tower, self.table, "attnpool")


class AttentionPool(Parts):
    """The pool of a ResNet, by open_clip's names; a call takes a map."""

    def __call__(
        self, x: Float[Tensor, "batch channels high wide"]
    ) -> Float[Tensor, "batch embed_dim"]:
        _, pooled = self._tower.get_submodule("pool")(x.flatten(2).transpose(1, 2))
        return pooled
