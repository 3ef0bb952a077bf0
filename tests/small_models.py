"""Fixtures: small models of each kind, with every weight random, so that no two are alike and no
norm is the identity."""

import warnings

import pytest
import torch
from torch import nn

from diptych import models
from diptych.config import ClipConfig
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig

TEXT = TextConfig(context_length=12, vocab_size=60, width=64, layers=2, heads=1, mlp_width=128)
VIT = VitConfig(image_size=32, patch_size=8, width=128, layers=2, heads=2, mlp_width=256)
RESNET = ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=8, heads=4)


@pytest.fixture
def vit() -> ClipConfig:
    return ClipConfig(image=VIT, text=TEXT, embed_dim=48)


@pytest.fixture
def resnet() -> ClipConfig:
    return ClipConfig(image=RESNET, text=TEXT, embed_dim=48)


@pytest.fixture
def randomise():
    """Fills every parameter and statistic of a module with random numbers of a sane size, in
    place."""

    def fill(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                matrix = tensor.ndim > 1
                tensor.copy_(
                    (noise - 0.5) * (12 / tensor[0].numel()) ** 0.5 if matrix else noise + 0.5
                )
                if name.endswith("bias"):
                    tensor.sub_(1.0)
        return module.eval()

    return fill


@pytest.fixture
def random_model(randomise):
    """A model of a configuration."""

    def make(config: ClipConfig, seed: int = 0) -> models.Clip:
        model = randomise(models.build(config), seed)
        assert isinstance(model, models.Clip)
        return model

    return make


@pytest.fixture
def example():
    """Pixels and ids for a configuration: captions of different lengths, the highest id at their
    end."""

    def make(config: ClipConfig) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        assert isinstance(config.text, TextConfig)
        length, end = config.text.context_length, config.text.vocab_size - 1
        ids = torch.randint(1, end, (3, length), generator=generator)
        for row, stop in zip(ids, (length - 1, 4, 1)):
            row[stop] = end
            row[stop + 1 :] = 0
        size = config.image.image_size
        return torch.randn(3, 3, size, size, generator=generator), ids

    return make


@pytest.fixture
def quiet():
    """For other libraries' own deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
