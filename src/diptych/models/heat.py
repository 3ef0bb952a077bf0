"""Heat maps: where in a picture a text is, as an image tower sees it."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.errors import ConfigError
from diptych.models.clip import unit
from diptych.models.tower import Tower
from diptych.nn.attention import Attending


def heat_maps(
    tower: Tower[Any],
    pixels: Float[Tensor, "batch 3 height wide"],
    texts: Float[Tensor, "texts embed_dim"],
) -> Float[Tensor, "batch texts rows columns"]:
    """For each picture and each text, given as a unit vector, a number for each place of the
    tower's grid.

    A tower that reads its patches by attention or by a mean gives each patch a vector of its own
    (`Tower.patch_vectors`): the map holds their cosines with the text. Of any other tower the map
    is Grad-CAM's (Selvaraju et al. 2017, arXiv:1610.02391), of the cosine of picture and text:
    numbers of at least 0, whose unit has no meaning.

    The tower should be in evaluation mode. Raises ConfigError for a tower whose pooled vector
    depends on no tokens that it shows, or whose tokens make no square.

    >>> import torch
    >>> from diptych import models, pretrained
    >>> from diptych.models.heat import heat_maps
    >>> model = models.build(pretrained.get("tiny"))
    >>> texts = torch.nn.functional.normalize(torch.ones(2, 128), dim=-1)
    >>> heat_maps(model.image, torch.zeros(1, 3, 48, 48), texts).shape
    torch.Size([1, 2, 3, 3])
    """
    with torch.no_grad():
        vectors = tower.patch_vectors(pixels)
    if vectors is None:
        return _square(_gradient_maps(tower, pixels, texts)).float()
    return _square((unit(vectors) @ texts.to(vectors.device).T).mT)


@torch.no_grad()
def patch_vectors(
    tower: Tower[Any], pixels: Float[Tensor, "batch 3 height wide"]
) -> Float[Tensor, "batch rows columns embed_dim"]:
    """`Tower.patch_vectors` by place. Raises ConfigError for a tower that has none."""
    vectors = tower.patch_vectors(pixels)
    if vectors is None:
        raise ConfigError(
            f"the patches of a {type(tower).__name__} have no vectors of their own in the shared "
            "space; its heat maps come from gradients"
        )
    return _square(vectors.mT).movedim(1, -1)


@torch.enable_grad()
def _gradient_maps(
    tower: Tower[Any], pixels: Tensor, texts: Tensor
) -> Float[Tensor, "batch texts places"]:
    tokens, pooled, first = tower.read_tokens(pixels.detach().requires_grad_())
    cosines = unit(pooled) @ texts.to(pooled.device).T
    maps = list[Tensor]()
    for cosine in cosines.sum(0):  # a picture's cosines depend on no other picture
        [slope] = torch.autograd.grad(cosine, tokens, retain_graph=True, allow_unused=True)
        if slope is None:  # pyright: ignore[reportUnnecessaryComparison]: see allow_unused
            raise ConfigError(
                f"a {type(tower).__name__} makes its vector of no tokens that it shows, so there "
                "are no heat maps of it; implement its patch_vectors or read_tokens"
            )
        # Equation 1: a channel's weight is the mean of its gradient over all places. Equation 2:
        # the weighted sum of channels, where it speaks for the text.
        own, slopes = (each[:, first:].float() for each in (tokens, slope))
        maps.append((own * slopes.mean(1, keepdim=True)).sum(-1).relu())
    return torch.stack(maps, dim=1).detach()


def _square(maps: Float[Tensor, "batch many places"]) -> Float[Tensor, "batch many rows columns"]:
    side = math.isqrt(maps.shape[-1])
    if side**2 != maps.shape[-1]:
        raise ConfigError(f"{maps.shape[-1]} patches make no square, so there are no heat maps")
    return maps.unflatten(-1, (side, side))


@torch.no_grad()
def attention_weights(
    tower: Tower[Any], pixels: Float[Tensor, "batch 3 height wide"]
) -> list[Float[Tensor, "batch heads queries tokens"]]:
    """The weights of each layer that attends, in the order of the layers: whose tokens (class token
    first, patches in reading order) each token takes how much of, by head; each row sums to 1. A
    pool's one query is a row.

    Raises ConfigError for a tower without such a layer: a convolutional net, another library's.

    >>> import torch
    >>> from diptych import models, pretrained
    >>> from diptych.models.heat import attention_weights
    >>> tower = models.build(pretrained.get("tiny")).image
    >>> layers = attention_weights(tower, torch.zeros(1, 3, 48, 48))
    >>> layers[0].shape
    torch.Size([1, 4, 9, 9])
    """
    found = list[Tensor]()

    def keep(layer: Attending, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        found.append(layer.weights(*inputs, **options))

    layers = [module for module in tower.modules() if isinstance(module, Attending)]
    if not layers:
        raise ConfigError(f"a {type(tower).__name__} has no attention that Diptych computes")
    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        tower(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return found
