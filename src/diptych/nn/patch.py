"""From pixels to tokens."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class PatchEmbedding(nn.Conv2d):
    """Square patches, each projected to `width`: a convolution whose stride is its kernel, computed
    as one product.

    It is built as `nn.Conv2d` is, and its output has a convolution's shape, so that it can be used,
    wrapped and adapted as one. In memory the output lies as tokens: `flatten(2).transpose(1, 2)`
    gives [batch, patches, width], in reading order, without a copy.

    >>> import torch
    >>> from diptych.nn import PatchEmbedding
    >>> x = PatchEmbedding(3, 8, kernel_size=4, stride=4)(torch.zeros(1, 3, 8, 12))
    >>> x.shape, x.flatten(2).transpose(1, 2).is_contiguous()
    (torch.Size([1, 8, 2, 3]), True)
    """

    gradient: float = 1.0
    """Factor on the gradient that comes back to it; what it gives is as it is."""

    def forward(
        self, input: Float[Tensor, "batch channels height wide"]
    ) -> Float[Tensor, "batch width rows columns"]:
        """[batch, channels, h, w] -> [batch, width, h / patch size, w / patch size]."""
        patches = self._patches(input)
        if self.gradient != 1 and patches.requires_grad:
            patches.register_hook(self._scaled)
        return patches

    def _scaled(self, gradient: Tensor) -> Tensor:
        return gradient * self.gradient

    def _patches(self, input: Tensor) -> Tensor:
        beside_each_other = self.stride == self.kernel_size and self.dilation == (1, 1)
        if not beside_each_other or self.padding != (0, 0) or self.groups != 1:
            return super().forward(input)
        _, _, p, q = self.weight.shape
        patches = input.unflatten(3, (-1, q)).unflatten(2, (-1, p))
        # Patches do not overlap, so each pixel meets each filter once: the convolution is the
        # product of [batch rows columns, channels p q] with the filters, as `unfold` would have it.
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation. The caller applies the nonlinearity."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> [batch, width, h / stride, w / stride]."""
        return self.norm(self.conv(x))

    def init(self) -> None:
        """Convolution: N(0, 2 / fan in) (He et al. 2015, arXiv:1502.01852). Norm: gain 1, bias 0,
        no statistics yet."""
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm.reset_parameters()


class ConvStem(nn.Sequential):
    """3x3 convolutions of stride 2 with batch normalisation and ReLU (Xiao et al. 2021,
    arXiv:2106.14881).

    >>> import torch
    >>> from diptych.nn import ConvStem
    >>> ConvStem((4, 8))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, widths: tuple[int, ...]):
        super().__init__(*(ConvNorm(c, w, 3, stride=2) for c, w in zip((3, *widths), widths)))

    def forward(self, input: Float[Tensor, "batch 3 height wide"]) -> Tensor:
        """Side by 2 ** len(widths) smaller, channels the last of `widths`."""
        x = input.contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = F.relu(layer(x))
        return x

    def init(self) -> None:
        """Fill every parameter: see `ConvNorm.init`."""
        for layer in self:
            assert isinstance(layer, ConvNorm)
            layer.init()


class Masked(NamedTuple):
    """Patches that are hidden from a tower, for masked image modelling."""

    places: Bool[Tensor, "batch patches"]
    token: Float[Tensor, " width"]
    """What stands in for each, and is learned."""


def hide(
    x: Float[Tensor, "batch patches width"], masked: Masked | None
) -> Float[Tensor, "batch patches width"]:
    """The patches with the token in the hidden ones' places; None: as they are. Positions are added
    behind it, so that a hidden patch is still somewhere.

    >>> import torch
    >>> from diptych.nn.patch import Masked, hide
    >>> hide(torch.zeros(1, 2, 1), Masked(torch.tensor([[False, True]]), torch.ones(1))).flatten()
    tensor([0., 1.])
    """
    return (
        x if masked is None else torch.where(masked.places[..., None], masked.token.to(x.dtype), x)
    )


class PatchDropout(nn.Module):
    """In training, a random subset of each row's patches is kept (FLIP, Li et al. 2022,
    arXiv:2212.00794).

    At least one patch is kept. Nothing is scaled: the remaining tokens are whole.

    >>> import torch
    >>> from diptych.nn import PatchDropout
    >>> PatchDropout(0.5)(torch.zeros(2, 10, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, share: float = 0.0):
        super().__init__()
        self.share = share

    def choose(
        self,
        x: Float[Tensor, "batch patches width"],
        seen: Bool[Tensor, "batch patches"] | None = None,
    ) -> Int[Tensor, "batch kept"] | None:
        """Which patches are kept, of those that are `seen` (None: all) before the others; None for
        all of them: in evaluation, or at a share of 0."""
        if not self.training or self.share == 0:
            return None
        # The places of the largest of independent random numbers: each subset is equally likely.
        keep = max(1, int(x.shape[1] * (1 - self.share)))
        numbers = self.numbers(x.shape[0], x.shape[1], x.device)
        if seen is not None:
            numbers = numbers.masked_fill(~seen, -torch.inf)
        return numbers.topk(keep, dim=1).indices

    def numbers(
        self, batch: int, patches: int, device: torch.device
    ) -> Float[Tensor, "batch patches"]:
        """Independent random numbers."""
        return torch.rand(batch, patches, device=device)

    def forward(self, x: Float[Tensor, "batch patches width"]) -> Float[Tensor, "batch kept width"]:
        """The kept patches."""
        kept = self.choose(x)
        return x if kept is None else take_patches(x, kept)


def take_patches(
    x: Float[Tensor, "batch patches width"], kept: Int[Tensor, "batch kept"]
) -> Float[Tensor, "batch kept width"]:
    """The patches of those numbers, of each row its own."""
    return x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))
